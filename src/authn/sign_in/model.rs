//! What comes in and what goes out.
use crate::{
    authn::sessions::Session,
    kernel::{OrgId, Secret, Token},
};

/// The client of whoever names none.
pub(in crate::authn) const DEFAULT_CLIENT: &str = "identityd-login";
const CLIENT_CHARS_MAX: usize = 200;
const SCOPE_CHARS_MAX: usize = 500;
const DEFAULT_SCOPE: &str = "openid";

/// Somebody who wants in.
#[derive(Debug)]
pub(in crate::authn) struct Attempt {
    /// As typed: it need not be an address to be refused like any other.
    pub(in crate::authn) email: String,
    pub(in crate::authn) password: Secret<String>,
    pub(in crate::authn) org: OrgChoice,
    pub(in crate::authn) client_id: String,
    pub(in crate::authn) scope: String,
}

/// Where to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::authn) enum OrgChoice {
    /// The home org, or the first there is.
    Home,
    /// One of several must be named.
    MustChoose,
    /// This one.
    Named(OrgId),
    /// One that does not exist: refused, like one that is not the person's.
    Unknown,
}

/// Somebody who is in.
#[derive(Debug)]
pub(in crate::authn) struct SignedIn {
    pub(in crate::authn) session: Session,
    pub(in crate::authn) access_token: Secret<String>,
    /// Seconds.
    pub(in crate::authn) expires_in: i64,
    pub(in crate::authn) refresh_token: Token,
    pub(in crate::authn) scope: String,
}

/// A client's name, within bounds.
pub(in crate::authn) fn client(name: Option<&str>) -> Option<String> {
    let name = name.map(str::trim).filter(|name| !name.is_empty()).unwrap_or(DEFAULT_CLIENT);
    let good = name.chars().count() <= CLIENT_CHARS_MAX && !name.chars().any(char::is_control);
    good.then(|| name.to_owned())
}

/// Scopes as RFC 6749 §3.3 has them.
pub(in crate::authn) fn scope(text: Option<&str>) -> Option<String> {
    let text = text.map(str::trim).filter(|text| !text.is_empty()).unwrap_or(DEFAULT_SCOPE);
    let plain = |c: char| c == ' ' || c.is_ascii_graphic() && c != '"' && c != '\\';
    (text.len() <= SCOPE_CHARS_MAX && text.chars().all(plain)).then(|| text.to_owned())
}

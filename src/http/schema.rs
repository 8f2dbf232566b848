//! Named schemas of texts that are parsed by hand: the rules of `kernel` and `authorization`, for clients. Values of
//! these types are never made.
use crate::authorization::{Action, Role};
use std::borrow::Cow;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, schema::Schema, schema::Type},
};

/// One line with something on it.
const LINE: &str = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$";

/// The same, or nothing at all.
const LINE_OR_EMPTY: &str = r"^([^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*)?$";

fn line(description: &str, pattern: &str, chars_max: usize) -> RefOr<Schema> {
    let line = ObjectBuilder::new().schema_type(Type::String).description(Some(description));
    line.pattern(Some(pattern)).max_length(Some(chars_max)).into()
}

fn one_of(description: &str, words: impl IntoIterator<Item = String>) -> RefOr<Schema> {
    let word = ObjectBuilder::new().schema_type(Type::String).description(Some(description));
    word.enum_values(Some(words)).into()
}

macro_rules! schemas {
    ($($(#[$doc:meta])* $kind:ident = $schema:expr;)*) => {$(
        $(#[$doc])*
        pub enum $kind {}

        impl PartialSchema for $kind {
            fn schema() -> RefOr<Schema> {
                $schema
            }
        }

        impl ToSchema for $kind {
            fn name() -> Cow<'static, str> {
                stringify!($kind).into()
            }
        }
    )*};
}

schemas! {
    /// [`crate::kernel::Name`].
    Name = line("One line of 1 to 200 characters", LINE, 200);
    /// A key's name, which may be left empty.
    KeyName = line("One line of at most 200 characters; empty for none", LINE_OR_EMPTY, 200);
    /// [`crate::kernel::Reason`].
    Reason = line("One line of 1 to 500 characters, for the audit log", LINE, 500);
    /// [`Role`].
    RoleName = one_of("A role", Role::ALL.iter().map(|role| role.as_str().to_owned()));
    /// [`crate::authorization::ScopeSet`], which is made of these.
    ScopeName = one_of("An action, every action on a resource, or `admin`: all that the holder may do", scope_names());
}

/// `inference` is how `inference:invoke` used to be spelled.
fn scope_names() -> Vec<String> {
    let actions: Vec<&str> = Action::ALL.iter().map(|action| action.as_str()).collect();
    let family = |action: &&str| Some(format!("{}:*", action.split_once(':')?.0));
    let mut families: Vec<String> = actions.iter().filter_map(family).collect();
    families.sort();
    families.dedup();
    ["admin", "inference"].into_iter().chain(actions).map(str::to_owned).chain(families).collect()
}

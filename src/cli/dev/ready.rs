//! `--ready-file`: for scripts that wait until everything is served.
use serde::Serialize;
use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

const OWNER_ONLY: u32 = 0o600;

/// Where what is, and how to sign in. It holds secrets, and is for whoever started us alone.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct Ready<'a> {
    pub(in crate::cli) url: &'a str,
    pub(in crate::cli) internal_url: Option<&'a str>,
    pub(in crate::cli) ops_url: Option<&'a str>,
    /// The first org's slug.
    pub(in crate::cli) org: Option<&'a str>,
    pub(in crate::cli) admin: Option<Administrator<'a>>,
    pub(in crate::cli) api_key: Option<&'a str>,
    pub(in crate::cli) service_account_id: Option<&'a str>,
    /// As the service's own role.
    pub(in crate::cli) database_url: &'a str,
}

/// Who can sign in.
#[derive(Serialize)]
pub(in crate::cli) struct Administrator<'a> {
    pub(in crate::cli) email: &'a str,
    /// Known only to the start that made it up.
    pub(in crate::cli) password: Option<&'a str>,
}

/// What an earlier run wrote is not true any more.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Ready<'_> {
    /// Whole or not at all: whoever sees the file can read it.
    pub(in crate::cli) fn write(&self, path: &Path) -> io::Result<()> {
        let draft = path.with_extension(format!("{}.draft", std::process::id()));
        remove(&draft)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(&draft)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(&draft, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_ready_file_is_whole_and_for_its_owner() {
        let path = std::env::temp_dir().join(format!("identityd-ready-{}.json", std::process::id()));
        fs::write(&path, "of an earlier run, readable by all").unwrap();
        let admin = Some(Administrator { email: "a@b.example", password: None });
        let ready = Ready {
            url: "http://127.0.0.1:1",
            internal_url: None,
            ops_url: Some("http://127.0.0.1:2"),
            org: Some("acme"),
            admin,
            api_key: Some("ids_x"),
            service_account_id: Some("s"),
            database_url: "postgres://identityd_app@127.0.0.1:3/identityd",
        };
        ready.write(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, OWNER_ONLY);
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "{\"url\":\"http://127.0.0.1:1\",\"internalUrl\":null,\"opsUrl\":\"http://127.0.0.1:2\",\"org\":\"acme\",\
             \"admin\":{\"email\":\"a@b.example\",\"password\":null},\"apiKey\":\"ids_x\",\"serviceAccountId\":\"s\",\
             \"databaseUrl\":\"postgres://identityd_app@127.0.0.1:3/identityd\"}"
        );
        remove(&path).unwrap();
        remove(&path).unwrap();
    }
}

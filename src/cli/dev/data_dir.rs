//! The directory in which `identityd dev` keeps what it keeps.
use crate::{
    cli::{Exit, exit::Stop, note},
    platform::{
        config::surroundings,
        entropy::Entropy,
        postgres::{self, PostgresError},
    },
};
use anyhow::Context as _;
use std::{
    fs::{self, DirBuilder},
    io::{self, IsTerminal as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf, absolute},
};

pub(super) const KEYS: &str = "keys.json";
pub(super) const MAIL: &str = "mail";
const SERVER: &str = "postgres";
/// All that is ours in it. What else is there is left alone.
const OURS: [&str; 3] = [KEYS, MAIL, SERVER];
/// Others may pass, to nothing but the server's files, whose user need not be us; what is inside is closed to them.
const PASSABLE: u32 = 0o711;
/// Mails hold tokens.
const OWNER_ONLY: u32 = 0o700;

/// One that is kept, or one that goes with the process.
pub(super) struct DataDir {
    path: PathBuf,
    temporary: bool,
}

impl DataDir {
    /// The one of `--data-dir`; nothing is made yet.
    pub(super) fn named(path: &Path) -> io::Result<Self> {
        Ok(Self { path: absolute(path)?, temporary: false })
    }

    /// One that nobody else has.
    pub(super) fn temporary() -> io::Result<Self> {
        let name = format!("identityd-dev-{:016x}", u64::from_be_bytes(Entropy::from_os().bytes()));
        Ok(Self { path: absolute(surroundings::temporary_directory().join(name))?, temporary: true })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the server's files are.
    pub(super) fn server(&self) -> Result<PathBuf, PostgresError> {
        postgres::directory_of(&self.path)
    }

    /// For the person who is to find it again.
    pub(super) fn describe(&self) -> Result<String, PostgresError> {
        let path = self.path.display();
        match self.server()? {
            _ if self.temporary => Ok(format!("{path} (goes when this ends)")),
            server if server.starts_with(&self.path) => Ok(path.to_string()),
            server => Ok(format!("{path} and {}", server.display())),
        }
    }

    /// Makes it, unless somebody keeps something else there.
    pub(super) fn make(&self) -> anyhow::Result<()> {
        let make = |path: &Path, mode| DirBuilder::new().recursive(true).mode(mode).create(path);
        let failed = || format!("{} cannot be made", self.path.display());
        if self.path.is_dir() {
            self.refuse_foreign()?;
        }
        make(&self.path, PASSABLE).with_context(failed)?;
        make(&self.path.join(MAIL), OWNER_ONLY).with_context(failed)
    }

    fn refuse_foreign(&self) -> anyhow::Result<()> {
        if self.server()?.exists() {
            return Ok(());
        }
        for entry in fs::read_dir(&self.path).with_context(|| self.path.display().to_string())? {
            let name = entry?.file_name();
            if !OURS.iter().any(|ours| name == *ours) {
                let message = format!(
                    "{} holds {}, which is not of `identityd dev`: choose another --data-dir",
                    self.path.display(),
                    name.display()
                );
                return Err(Stop::new(Exit::Usage, message).into());
            }
        }
        Ok(())
    }

    /// Takes away what is ours, and nothing else.
    pub(super) fn reset(&self, own_server: bool, sure: bool) -> anyhow::Result<()> {
        if !own_server {
            let message = "--reset takes the keys away that the database of database.url needs: empty that one yourself";
            return Err(Stop::new(Exit::Usage, message).into());
        }
        if !self.path.is_dir() {
            return Ok(());
        }
        self.refuse_foreign()?;
        if !sure && !self.confirmed()? {
            return Err(Stop::new(Exit::Failure, "nothing was taken away").into());
        }
        let server = self.server()?;
        postgres::erase(&server)?;
        remove(fs::remove_file(self.path.join(KEYS)))?;
        remove(fs::remove_dir_all(self.path.join(MAIL)))?;
        Ok(())
    }

    fn confirmed(&self) -> anyhow::Result<bool> {
        if !io::stdin().is_terminal() {
            return Err(
                Stop::new(Exit::Usage, "--reset asks first, and there is nobody to ask: add --yes").into()
            );
        }
        note(format_args!(
            "This takes away the database, the keys and the mails in {}. Type yes to go on:",
            self.path.display()
        ));
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(answer.trim() == "yes")
    }
}

/// What was not there is away.
fn remove(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if !self.temporary {
            return;
        }
        let server = self.server();
        for path in server.as_deref().into_iter().chain([self.path.as_path()]) {
            if let Err(error) = remove(fs::remove_dir_all(path)) {
                note(format_args!("{} could not be taken away: {error}", path.display()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> DataDir {
        let path = std::env::temp_dir().join(format!("identityd-data-{name}-{}", std::process::id()));
        DataDir { path, temporary: true }
    }

    #[test]
    fn a_directory_of_somebody_else_is_refused() {
        let directory = scratch("foreign");
        fs::create_dir(&directory.path).unwrap();
        fs::write(directory.path.join("thesis.tex"), "…").unwrap();
        let error = directory.make().unwrap_err();
        assert!(error.to_string().contains("holds thesis.tex"), "{error}");
        assert_eq!(Exit::of(&error), Exit::Usage);
        assert!(directory.reset(true, true).is_err());
        assert!(directory.path.join("thesis.tex").exists());
    }

    #[test]
    fn a_reset_takes_what_is_ours_and_leaves_the_rest() {
        let directory = scratch("reset");
        fs::create_dir_all(directory.path.join(MAIL)).unwrap();
        fs::create_dir_all(directory.server().unwrap().join("data")).unwrap();
        fs::write(directory.path.join(KEYS), "{}").unwrap();
        fs::write(directory.path.join("notes"), "mine").unwrap();
        directory.reset(true, true).unwrap();
        directory.reset(true, true).unwrap();
        assert!(!directory.server().unwrap().join("data").exists());
        assert!(!directory.path.join(KEYS).exists() && !directory.path.join(MAIL).exists());
        assert!(directory.path.join("notes").exists());
        assert!(directory.reset(false, true).is_err());
    }

    #[test]
    fn a_temporary_directory_goes_with_its_owner() {
        let directory = DataDir::temporary().unwrap();
        directory.make().unwrap();
        let path = directory.path.clone();
        assert!(path.is_dir());
        drop(directory);
        assert!(!path.exists());
    }
}

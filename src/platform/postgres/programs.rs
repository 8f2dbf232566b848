//! Which PostgreSQL, as whom, and how it is run.
use super::PostgresError;
use crate::platform::config::surroundings;
use std::{
    fs, io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Where Debian's packages put each major version.
const PACKAGED: &str = "/usr/lib/postgresql";
const USERS: &str = "/etc/passwd";

/// The user as whom the server runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Account {
    /// None: as we do. PostgreSQL refuses root, so root needs somebody else.
    pub(super) fn needed() -> Result<Option<Self>, PostgresError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let users = fs::read_to_string(USERS).unwrap_or_default();
        let account = ["postgres", "nobody"].into_iter().find_map(|name| Self::find(&users, name));
        account.map(Some).ok_or(PostgresError::NoUser)
    }

    fn find(users: &str, name: &str) -> Option<Self> {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let found = fields.next() == Some(name);
            let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
            found.then_some(Self { uid, gid })
        })
    }
}

/// The server's programs.
pub(super) struct Programs {
    bin: PathBuf,
    account: Option<Account>,
}

impl Programs {
    /// `IDENTITYD_PG_BIN`, else the package of the major version that made the data, else the highest, else PATH.
    pub(super) fn find(made_by: Option<&str>, account: Option<Account>) -> Result<Self, PostgresError> {
        if let Some(bin) = surroundings::postgres_bin() {
            return if complete(&bin) {
                Ok(Self { bin, account })
            } else {
                Err(PostgresError::NotThere(bin))
            };
        }
        let packaged = fs::read_dir(PACKAGED).into_iter().flatten().flatten().map(|entry| entry.path());
        let found = choose(packaged.filter(|path| complete(&path.join("bin"))).collect(), made_by);
        let on_path = || surroundings::command_directories().into_iter().find(|path| complete(path));
        let bin = found.map(|path| path.join("bin")).or_else(on_path).ok_or(PostgresError::NotFound)?;
        Ok(Self { bin, account })
    }

    /// Makes a cluster.
    pub(super) fn initdb(&self) -> Command {
        self.prepared(Command::new(self.bin.join("initdb")))
    }

    /// The server. Where setpriv is there, the system interrupts it when we are gone, however that came about.
    pub(super) fn postgres(&self) -> Command {
        const WITH_US: [&str; 3] = ["--pdeathsig", "INT", "--"];
        // The one of BusyBox does not know the word.
        let can = |setpriv: &PathBuf| {
            let status = Command::new(setpriv).args(WITH_US).arg("true").stderr(Stdio::null()).status();
            status.is_ok_and(|status| status.success())
        };
        let setpriv = surroundings::command_directories().into_iter().map(|path| path.join("setpriv"));
        let postgres = self.bin.join("postgres");
        match setpriv.filter(|path| path.is_file()).find(can) {
            Some(setpriv) => {
                let mut command = self.prepared(Command::new(setpriv));
                command.args(WITH_US).arg(postgres);
                command
            }
            None => self.prepared(Command::new(postgres)),
        }
    }

    /// One of the programs did not start.
    pub(super) fn failed(&self, name: &str, error: io::Error) -> PostgresError {
        PostgresError::Run(self.bin.join(name), error)
    }

    /// Nothing of our surroundings, and of our rights only those of the account.
    fn prepared(&self, mut command: Command) -> Command {
        command.env_clear().env("LC_ALL", "C.UTF-8").env("PATH", "/usr/bin:/bin");
        command.current_dir("/").stdin(Stdio::null());
        if let Some(Account { uid, gid }) = self.account {
            command.uid(uid).gid(gid);
        }
        command
    }
}

fn complete(bin: &Path) -> bool {
    ["initdb", "postgres"].into_iter().all(|name| bin.join(name).is_file())
}

/// The directory named like the version that made the data, else the one named by the highest number.
fn choose(packaged: Vec<PathBuf>, made_by: Option<&str>) -> Option<PathBuf> {
    let name = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let version = |path: &PathBuf| name(path).and_then(|name| name.parse::<u32>().ok()).unwrap_or_default();
    packaged
        .into_iter()
        .max_by_key(|path| (made_by.is_some() && name(path).as_deref() == made_by, version(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_that_made_the_data_comes_before_the_highest() {
        let packaged = || ["/p/9", "/p/15", "/p/17", "/p/common"].map(PathBuf::from).to_vec();
        assert_eq!(choose(packaged(), None), Some("/p/17".into()));
        assert_eq!(choose(packaged(), Some("15")), Some("/p/15".into()));
        assert_eq!(choose(packaged(), Some("16")), Some("/p/17".into()));
        assert_eq!(choose(vec![], Some("16")), None);
    }

    #[test]
    fn an_account_is_read_from_the_list_of_users() {
        let users = "root:x:0:0::/root:/bin/sh\nbroken\npostgres:x:107:112:,,,:/var/lib:/bin/sh\n";
        assert_eq!(Account::find(users, "postgres"), Some(Account { uid: 107, gid: 112 }));
        assert_eq!(Account::find(users, "nobody"), None);
    }
}

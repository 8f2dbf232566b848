//! A PostgreSQL server of our own, as a child process: for `identityd dev`, and for nobody else.
//!
//! **Invariant:** one process at a time has the server of a directory, and whoever finds one left behind ends it.
mod programs;

use super::keys::sha256;
use programs::{Account, Programs};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    net::TcpListener,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

const OWNER_ONLY: u32 = 0o700;
const ANYONE_MAY_PASS: u32 = 0o001;
/// Where the server's files are when its user cannot come to the data directory.
const ELSEWHERE: &str = "/var/tmp";
const READY_MAX: Duration = Duration::from_secs(30);
/// How soon to look again for something that takes milliseconds.
const PAUSE: Duration = Duration::from_millis(5);
/// Between our look at a port and the server's, somebody else may take it.
const PORTS_MAX: u32 = 3;
/// Fast shutdown, immediate shutdown, the end; and how long each may take.
const ENDS: [(Signal, Duration); 3] = [
    (Signal::INT, Duration::from_secs(10)),
    (Signal::QUIT, Duration::from_secs(5)),
    (Signal::KILL, Duration::from_secs(5)),
];
const LOG_LINES: usize = 6;

/// Why there is no server. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    #[error(
        "no PostgreSQL server found: install one (`apt-get install -y postgresql`), or name the directory of initdb \
         and postgres in IDENTITYD_PG_BIN, or a database on this machine in database.url and database.migrate_url"
    )]
    NotFound,
    #[error("IDENTITYD_PG_BIN is {}, and initdb and postgres are not both in it", .0.display())]
    NotThere(PathBuf),
    #[error(
        "PostgreSQL refuses to run as root, and this machine has no user postgres or nobody to run it as"
    )]
    NoUser,
    #[error("{} is in use by another `identityd dev`: end that one, or choose another --data-dir", .0.display())]
    InUse(PathBuf),
    #[error("{} belongs to somebody else: remove it, or choose another --data-dir", .0.display())]
    Foreign(PathBuf),
    #[error("{} cannot be used", .0.display())]
    Files(PathBuf, #[source] io::Error),
    #[error("{} cannot be run", .0.display())]
    Run(PathBuf, #[source] io::Error),
    #[error("initdb failed:\n{0}")]
    Initdb(String),
    #[error("PostgreSQL ended by itself ({status}):\n{log}")]
    Ended { status: ExitStatus, log: String },
    #[error("PostgreSQL was not ready in 30 seconds:\n{log}")]
    Slow { log: String },
    #[error("PostgreSQL of process {0} does not end")]
    Lasting(i32),
}

/// What becomes of the data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Data {
    /// It survives the loss of power.
    Kept,
    /// Nobody looks at it after the server's end, so it need not reach the disk.
    ThrownAway,
}

/// A running server, which ends when this is dropped.
pub struct Postgres {
    child: Child,
    port: u16,
    _lock: File,
}

/// Where the server of a data directory keeps its files: in the directory, unless we are root and the user as whom the
/// server then runs may not come there.
pub fn directory_of(data_dir: &Path) -> Result<PathBuf, PostgresError> {
    let data_dir = data_dir.canonicalize().map_err(files(data_dir))?;
    let closed = |path: &Path| match fs::metadata(path) {
        Ok(metadata) => metadata.permissions().mode() & ANYONE_MAY_PASS == 0,
        Err(_) => true,
    };
    if Account::needed()?.is_none() || !data_dir.ancestors().any(closed) {
        return Ok(data_dir.join("postgres"));
    }
    let digest = sha256(&[data_dir.as_os_str().as_bytes()]);
    // Enough of it that no two directories share one.
    let name = digest.first_chunk().copied().map(u64::from_be_bytes).unwrap_or_default();
    Ok(Path::new(ELSEWHERE).join(format!("identityd-dev-{name:016x}")))
}

/// Ends a server that was left behind in this directory, and takes the data away.
pub fn erase(directory: &Path) -> Result<(), PostgresError> {
    if !directory.exists() {
        return Ok(());
    }
    let _lock = lock(directory)?;
    end_left_behind(&directory.join("data"))?;
    for name in ["data", "data.new"] {
        remove(&directory.join(name))?;
    }
    for name in ["log", "port"] {
        let path = directory.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(files(&path)(error)),
            _ => (),
        }
    }
    Ok(())
}

impl Postgres {
    /// Starts the server of this directory, which is made where there is none, and waits until it answers. It listens
    /// on a loopback port and trusts whoever comes.
    ///
    /// To be called on a thread that lives as long as the process: where the system can, it ends the server with that.
    pub fn start(directory: &Path, keep: Data) -> Result<Self, PostgresError> {
        let (data, account) = (directory.join("data"), Account::needed()?);
        let made_by = fs::read_to_string(data.join("PG_VERSION")).ok();
        let programs = Programs::find(made_by.as_deref().map(str::trim), account)?;
        own(directory, account)?;
        let lock = lock(directory)?;
        end_left_behind(&data)?;
        if !data.join("PG_VERSION").exists() {
            initdb(&programs, directory, &data)?;
        }
        let mut attempts = 0;
        loop {
            attempts += 1;
            let port = port(directory, attempts)?;
            let mut child = launch(&programs, directory, port, keep)?;
            match until_ready(&mut child, directory, port) {
                Ok(()) => return Ok(Self { child, port, _lock: lock }),
                Err(PostgresError::Ended { .. }) if taken(port) && attempts < PORTS_MAX => (),
                Err(error) => {
                    end_child(&mut child);
                    return Err(error);
                }
            }
        }
    }

    /// Has it ended by itself, or by somebody else's hand?
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// How to come in.
    pub fn url(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        end_child(&mut self.child);
    }
}

fn files(path: &Path) -> impl Fn(io::Error) -> PostgresError {
    |error| PostgresError::Files(path.to_owned(), error)
}

fn remove(path: &Path) -> Result<(), PostgresError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(files(path)(error)),
        _ => Ok(()),
    }
}

/// Makes the directory, for the server's user alone. What is there already must be ours: below `/var/tmp` anyone could
/// have put it.
fn own(directory: &Path, account: Option<Account>) -> Result<(), PostgresError> {
    let failed = files(directory);
    match DirBuilder::new().mode(OWNER_ONLY).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => (),
    }
    let metadata = fs::symlink_metadata(directory).map_err(&failed)?;
    let ours = [Some(rustix::process::geteuid().as_raw()), account.map(|account| account.uid)];
    if !metadata.is_dir() || !ours.contains(&Some(metadata.uid())) {
        return Err(PostgresError::Foreign(directory.to_owned()));
    }
    if let Some(Account { uid, gid }) = account {
        chown(directory, Some(uid), Some(gid)).map_err(&failed)?;
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(OWNER_ONLY)).map_err(failed)
}

/// The system takes the lock away with our last breath, whatever kills us.
fn lock(directory: &Path) -> Result<File, PostgresError> {
    let path = directory.join("lock");
    let lock = File::create(&path).map_err(files(&path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(PostgresError::InUse(directory.to_owned())),
        Err(TryLockError::Error(error)) => Err(files(&path)(error)),
    }
}

/// First into a directory of another name: what a killed initdb leaves looks like a whole one.
fn initdb(programs: &Programs, directory: &Path, data: &Path) -> Result<(), PostgresError> {
    let draft = directory.join("data.new");
    remove(&draft)?;
    let mut command = programs.initdb();
    command.args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "-D"]);
    let output = command.arg(&draft).output().map_err(|error| programs.failed("initdb", error))?;
    if !output.status.success() {
        return Err(PostgresError::Initdb(tail(&String::from_utf8_lossy(&output.stderr))));
    }
    fs::rename(&draft, data).map_err(files(data))
}

/// The port of last time, so that what a person noted down still holds, unless somebody else has it now.
fn port(directory: &Path, attempt: u32) -> Result<u16, PostgresError> {
    let path = directory.join("port");
    let last = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
    if let Some(port) = last.filter(|port| attempt == 1 && !taken(*port)) {
        return Ok(port);
    }
    let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    let port = free.map_err(files(&path))?.port();
    fs::write(&path, port.to_string()).map_err(files(&path))?;
    Ok(port)
}

fn taken(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_err()
}

fn launch(programs: &Programs, directory: &Path, port: u16, keep: Data) -> Result<Child, PostgresError> {
    let path = directory.join("log");
    let log = File::create(&path).map_err(files(&path))?;
    let mut command = programs.postgres();
    command.arg("-D").arg(directory.join("data")).args(["-p", &port.to_string()]);
    // No socket: its path would have to be short, and the port is enough.
    let mut settings = vec!["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=60"];
    settings.extend(["shared_buffers=64MB", "timezone=UTC", "log_timezone=UTC"]);
    if keep == Data::ThrownAway {
        settings.extend(["fsync=off", "synchronous_commit=off", "full_page_writes=off"]);
    }
    command.args(settings.into_iter().flat_map(|setting| ["-c", setting]));
    // A group of its own: Ctrl-C at the terminal is for us, and we end it when nobody needs it any more.
    command.stdout(Stdio::null()).stderr(log).process_group(0);
    command.spawn().map_err(|error| programs.failed("postgres", error))
}

fn until_ready(child: &mut Child, directory: &Path, port: u16) -> Result<(), PostgresError> {
    let (begun, file) = (Instant::now(), directory.join("data").join("postmaster.pid"));
    let log = || tail(&fs::read_to_string(directory.join("log")).unwrap_or_default());
    let ready = |pid: u32| {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let line = |number| text.lines().nth(number).map(str::trim);
        line(0) == Some(&pid.to_string()) && line(3) == Some(&port.to_string()) && line(7) == Some("ready")
    };
    while !ready(child.id()) {
        if let Some(status) = child.try_wait().map_err(files(&file))? {
            return Err(PostgresError::Ended { status, log: log() });
        }
        if begun.elapsed() > READY_MAX {
            return Err(PostgresError::Slow { log: log() });
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// The last lines, where the reason is.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let (_, last) = lines.split_at(lines.len().saturating_sub(LOG_LINES));
    last.join("\n")
}

/// An identityd that was killed may have left its server running, and the next server refuses the data then. The lock
/// is ours, so nobody else needs that one.
fn end_left_behind(data: &Path) -> Result<(), PostgresError> {
    let file = data.join("postmaster.pid");
    let Ok(text) = fs::read_to_string(&file) else { return Ok(()) };
    let number: Option<i32> = text.lines().next().and_then(|line| line.trim().parse().ok());
    if let Some(pid) = number.filter(|number| *number > 0).and_then(Pid::from_raw) {
        // PostgreSQL works in its data directory; another process of that number does not.
        let directory = data.canonicalize().map_err(files(data))?;
        let gone = || fs::read_link(format!("/proc/{pid}/cwd")).ok().as_ref() != Some(&directory);
        if !end(pid, gone) {
            return Err(PostgresError::Lasting(pid.as_raw_nonzero().get()));
        }
    }
    // What is left of it after a loss of power would name a process of today.
    match fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(files(&file)(error)),
        _ => Ok(()),
    }
}

fn end_child(child: &mut Child) {
    let pid = Pid::from_child(child);
    // An error means that the child is not ours to wait for, so it is gone.
    end(pid, || !matches!(child.try_wait(), Ok(None)));
}

/// Ends a process, first politely. `false`: it does not.
fn end(pid: Pid, mut gone: impl FnMut() -> bool) -> bool {
    for (signal, patience) in ENDS {
        if gone() {
            return true;
        }
        // Fails if it has just gone.
        let _ = kill_process(pid, signal);
        let begun = Instant::now();
        while begun.elapsed() < patience {
            if gone() {
                return true;
            }
            thread::sleep(PAUSE);
        }
    }
    gone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_log_is_its_last_lines() {
        assert_eq!(tail("1\n2\n3\n4\n5\n6\n7\n8"), "3\n4\n5\n6\n7\n8");
        assert_eq!(tail("one"), "one");
        assert_eq!(tail(""), "");
    }

    #[test]
    fn what_is_not_a_directory_of_ours_is_refused() {
        let directory = std::env::temp_dir().join(format!("identityd-own-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        std::os::unix::fs::symlink("/etc", directory.join("link")).unwrap();
        assert!(matches!(own(&directory.join("link"), None), Err(PostgresError::Foreign(_))));
        assert!(matches!(own(&directory.join("none/below"), None), Err(PostgresError::Files(..))));
        own(&directory.join("new"), None).unwrap();
        assert_eq!(fs::metadata(directory.join("new")).unwrap().mode() & 0o777, OWNER_ONLY);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn where_the_server_s_user_may_not_come_it_has_a_place_elsewhere() {
        let directory = std::env::temp_dir().join(format!("identityd-closed-{}", std::process::id()));
        fs::create_dir_all(directory.join("closed/data")).unwrap();
        let mode =
            |mode| fs::set_permissions(directory.join("closed"), fs::Permissions::from_mode(mode)).unwrap();
        let data_dir = directory.join("closed/data");
        mode(0o711);
        assert_eq!(directory_of(&data_dir).unwrap(), data_dir.join("postgres"));
        mode(OWNER_ONLY);
        let expected = if Account::needed().unwrap().is_some() { Path::new(ELSEWHERE) } else { &data_dir };
        assert_eq!(directory_of(&data_dir).unwrap().parent(), Some(expected));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_directory_has_one_user() {
        let directory = std::env::temp_dir().join(format!("identityd-lock-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let first = lock(&directory).unwrap();
        assert!(matches!(lock(&directory), Err(PostgresError::InUse(_))));
        drop(first);
        lock(&directory).unwrap();
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_process_of_another_directory_is_not_ended() {
        let directory = std::env::temp_dir().join(format!("identityd-left-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("postmaster.pid"), format!("{}\n", std::process::id())).unwrap();
        end_left_behind(&directory).unwrap();
        assert!(!directory.join("postmaster.pid").exists());
        fs::remove_dir_all(directory).unwrap();
    }
}

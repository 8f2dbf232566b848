//! A way to PostgreSQL that stops a process at a named point: where it says a certain statement in a certain
//! transaction, before the server hears it, or once the server has done it and before the process knows.
use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::Runtime,
    task::AbortHandle,
};

const SSL_REQUEST: i32 = 80_877_103;
const MESSAGE_MAX: usize = 64 * 1024 * 1024;

/// A place in what a process does.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    pub name: &'static str,
    /// What the transaction has said by then; empty: it does not matter.
    pub within: &'static str,
    /// What it says now.
    pub at: &'static str,
    pub side: Side,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// PostgreSQL does not hear of it.
    Before,
    /// PostgreSQL has done it, and the process does not know.
    After,
}

/// One process's way to the database, for as long as it is held.
pub struct Tripwire {
    pub address: SocketAddr,
    wire: Arc<Wire>,
    accepting: AbortHandle,
}

#[derive(Default)]
struct Wire {
    /// And how often the point is still to be passed.
    armed: Mutex<Option<(Point, usize)>>,
    reached: AtomicBool,
}

impl Tripwire {
    pub fn before(runtime: &Runtime, server: SocketAddr) -> Self {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let (address, wire) = (listener.local_addr().unwrap(), Arc::<Wire>::default());
        let shared = Arc::clone(&wire);
        let accept = async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(connection(client, server, Arc::clone(&shared)));
            }
        };
        Self { address, wire, accepting: runtime.spawn(accept).abort_handle() }
    }

    /// The process will stop there when it comes there for the `time`th time.
    pub fn arm(&self, point: Point, time: usize) {
        self.wire.reached.store(false, Ordering::Release);
        *self.wire.armed.lock().unwrap() = Some((point, time - 1));
    }

    /// Has it stopped there?
    pub fn is_reached(&self) -> bool {
        self.wire.reached.load(Ordering::Acquire)
    }
}

impl Drop for Tripwire {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Wire {
    /// Is this where to stop?
    fn stops(&self, said: &[String], now: &str) -> Option<Side> {
        let mut armed = self.armed.lock().unwrap();
        let (point, passes) = armed.as_mut()?;
        let within = point.within.is_empty() || said.iter().any(|before| before.contains(point.within));
        if !within || !now.contains(point.at) {
            return None;
        }
        if *passes > 0 {
            *passes -= 1;
            return None;
        }
        let side = point.side;
        *armed = None;
        Some(side)
    }

    fn reach(&self) {
        self.reached.store(true, Ordering::Release);
    }
}

async fn connection(client: TcpStream, server: SocketAddr, wire: Arc<Wire>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    // A message for itself is not to wait for the next one.
    for socket in [&client, &server] {
        socket.set_nodelay(true).unwrap();
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let deaf = AtomicBool::new(false);
    tokio::select! {
        _ = speak(from_client, to_server, &wire, &deaf) => (),
        _ = hear(from_server, to_client, &wire, &deaf) => (),
    }
}

/// What the server answers.
async fn hear(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    wire: &Wire,
    deaf: &AtomicBool,
) -> io::Result<()> {
    let mut piece = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut piece).await?;
        if length == 0 {
            return Ok(());
        }
        if deaf.load(Ordering::Acquire) {
            wire.reach();
            continue;
        }
        to.write_all(&piece[..length]).await?;
    }
}

/// What the process says, a message at a time.
async fn speak(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    wire: &Wire,
    deaf: &AtomicBool,
) -> io::Result<()> {
    greet(&mut from, &mut to).await?;
    let (mut statements, mut said) = (HashMap::<String, String>::new(), Vec::<String>::new());
    loop {
        let mut message = vec![0; 5];
        from.read_exact(&mut message).await?;
        read_rest(&mut from, &mut message, 1).await?;
        let mut texts = message[5..].split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text));
        let mut text = || texts.next().unwrap_or_default().into_owned();
        let now = match message[0] {
            b'P' => {
                let (name, statement) = (text(), text());
                statements.insert(name, statement);
                None
            }
            b'B' => {
                let _portal = text();
                statements.get(&text()).cloned()
            }
            b'Q' => Some(text()),
            _ => None,
        };
        if let Some(now) = now {
            if now.starts_with("BEGIN") {
                said.clear();
            }
            match wire.stops(&said, &now) {
                Some(Side::Before) => {
                    wire.reach();
                    // Until the process is dead; the server must not wait for it any longer than that.
                    while from.read(&mut message).await? > 0 {}
                    return Ok(());
                }
                Some(Side::After) => deaf.store(true, Ordering::Release),
                None => (),
            }
            said.push(now);
        }
        to.write_all(&message).await?;
    }
}

/// The first messages have no type.
async fn greet(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf) -> io::Result<()> {
    loop {
        let mut message = vec![0; 4];
        from.read_exact(&mut message).await?;
        read_rest(from, &mut message, 0).await?;
        to.write_all(&message).await?;
        if message[4..8] != SSL_REQUEST.to_be_bytes() {
            return Ok(());
        }
    }
}

/// The rest of a message whose length stands there.
async fn read_rest(from: &mut OwnedReadHalf, message: &mut Vec<u8>, at: usize) -> io::Result<()> {
    let length = u32::from_be_bytes(message[at..at + 4].try_into().unwrap());
    let (head, length) = (message.len(), at + usize::try_from(length).unwrap());
    if length > MESSAGE_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    message.resize(length, 0);
    from.read_exact(&mut message[head..]).await.map(drop)
}

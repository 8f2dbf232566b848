//! A proxy between a process and a server, for what networks do: it delays, freezes, cuts and resets connections.
use std::{net::SocketAddr, path::PathBuf, sync::Mutex, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    task::AbortHandle,
};

/// What is remembered of what a client said.
const SPOKEN_MAX: usize = 64 * 1024;

/// Where the real server is.
#[derive(Clone, Debug)]
pub enum Upstream {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// What the network does.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Fault {
    /// Its work.
    None,
    /// Each piece, in either direction, arrives so much later.
    Delay(Duration),
    /// Nothing arrives, and nobody is told: a peer that stands still, or a network that loses everything.
    Freeze,
    /// The same for those connections that have said a certain thing; the others work.
    FreezeSaying(&'static str),
    /// Connections end, and new ones end at once.
    Cut,
}

#[derive(Clone, Copy)]
struct Network {
    fault: Fault,
    /// Connections of a former one are reset.
    generation: u64,
}

/// One server behind a network.
pub struct FaultProxy {
    pub address: SocketAddr,
    network: watch::Sender<Network>,
    accepting: AbortHandle,
}

impl FaultProxy {
    /// On a free port, for as long as it is held.
    pub async fn before(upstream: Upstream) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (network, watched) = watch::channel(Network { fault: Fault::None, generation: 0 });
        let accept = async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (upstream, watched) = (upstream.clone(), watched.clone());
                let cut = watched.borrow().fault == Fault::Cut;
                if !cut {
                    tokio::spawn(connection(client, upstream, watched));
                }
            }
        };
        Self { address, network, accepting: tokio::spawn(accept).abort_handle() }
    }

    /// From now on.
    pub fn set(&self, fault: Fault) {
        self.network.send_modify(|network| network.fault = fault);
    }

    /// Ends every connection there is as a host does that knows nothing of it; new ones work.
    pub fn reset(&self) {
        self.network.send_modify(|network| network.generation += 1);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.set(Fault::Cut);
    }
}

async fn connection(mut client: TcpStream, upstream: Upstream, mut watched: watch::Receiver<Network>) {
    let (began, ends) = (watched.borrow().generation, watched.clone());
    let carried = async {
        // Where the server is down, the connection ends like one that the server ends.
        match upstream {
            Upstream::Tcp(address) => {
                let Ok(server) = TcpStream::connect(address).await else { return };
                carry(&mut client, server, ends).await;
            }
            Upstream::Unix(path) => {
                let Ok(server) = UnixStream::connect(path).await else { return };
                carry(&mut client, server, ends).await;
            }
        }
    };
    let ended = watched.wait_for(|now| now.fault == Fault::Cut || now.generation != began);
    let reset = tokio::select! {
        () = carried => false,
        ended = ended => ended.is_ok_and(|now| now.generation != began),
    };
    if reset {
        // Closed with an RST in place of a FIN.
        client.set_zero_linger().unwrap();
    }
}

async fn carry(
    client: &mut TcpStream,
    server: impl AsyncRead + AsyncWrite + Unpin,
    watched: watch::Receiver<Network>,
) {
    let spoken = Spoken::default();
    let (from_server, to_server) = tokio::io::split(server);
    let (from_client, to_client) = client.split();
    tokio::select! {
        () = pump(from_client, to_server, watched.clone(), &spoken, true) => (),
        () = pump(from_server, to_client, watched, &spoken, false) => (),
    }
}

/// What the client of a connection has said first.
#[derive(Default)]
struct Spoken(Mutex<Vec<u8>>);

impl Spoken {
    fn note(&self, piece: &[u8]) {
        let mut all = self.0.lock().unwrap();
        let room = SPOKEN_MAX.saturating_sub(all.len()).min(piece.len());
        all.extend_from_slice(&piece[..room]);
    }

    fn contains(&self, text: &str) -> bool {
        self.0.lock().unwrap().windows(text.len()).any(|window| window == text.as_bytes())
    }
}

/// One direction of a connection.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut watched: watch::Receiver<Network>,
    spoken: &Spoken,
    speaks: bool,
) {
    let mut piece = vec![0; 16 * 1024];
    loop {
        let Ok(length @ 1..) = from.read(&mut piece).await else { return };
        if speaks {
            spoken.note(&piece[..length]);
        }
        let fault = watched.borrow().fault;
        if let Fault::Delay(by) = fault {
            tokio::time::sleep(by).await;
        }
        let moves = |network: &Network| match network.fault {
            Fault::Freeze => false,
            Fault::FreezeSaying(text) => !spoken.contains(text),
            Fault::None | Fault::Delay(_) | Fault::Cut => true,
        };
        if watched.wait_for(moves).await.is_err() || to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}

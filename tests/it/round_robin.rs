//! A round-robin before several processes, as an ingress is one: each request goes to the next that is ready, over
//! connections that are kept. One that says no on `/readyz`, or answers that it closes, gets no more; one that takes no
//! connection is passed over, since it has seen nothing of the request. What was sent once is not sent again.
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    task::AbortHandle,
};

/// How often each process is asked whether it is ready.
const PROBE_EVERY: Duration = Duration::from_millis(50);
const PROBE_MAX: Duration = Duration::from_secs(1);
const MESSAGE_MAX: usize = 4 * 1024 * 1024;

/// On a free port, for as long as it is held.
pub struct RoundRobin {
    pub url: String,
    pool: Arc<Pool>,
    tasks: [AbortHandle; 2],
}

#[derive(Default)]
struct Pool {
    members: Mutex<Vec<Arc<Member>>>,
    turn: AtomicUsize,
}

struct Member {
    address: SocketAddr,
    ready: AtomicBool,
    idle: Mutex<Vec<TcpStream>>,
    answered: AtomicUsize,
}

impl RoundRobin {
    pub fn start(runtime: &Runtime) -> Self {
        let pool = Arc::<Pool>::default();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let accepting = Arc::clone(&pool);
        let accept = runtime.spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(Arc::clone(&accepting), client));
            }
        });
        let probed = Arc::clone(&pool);
        let probe = runtime.spawn(async move {
            loop {
                probed.probe().await;
                tokio::time::sleep(PROBE_EVERY).await;
            }
        });
        Self { url, pool, tasks: [accept.abort_handle(), probe.abort_handle()] }
    }

    /// One more process; it gets requests once it is ready.
    pub fn add(&self, url: &str) {
        let address = address(url);
        let member = Member {
            address,
            ready: AtomicBool::new(false),
            idle: Mutex::default(),
            answered: AtomicUsize::new(0),
        };
        self.pool.members.lock().unwrap().push(Arc::new(member));
    }

    /// It is gone.
    pub fn remove(&self, url: &str) {
        self.pool.members.lock().unwrap().retain(|member| member.address != address(url));
    }

    /// How many get requests.
    pub fn ready(&self) -> usize {
        self.pool.ready().len()
    }

    /// How many requests each process has answered.
    pub fn answered(&self) -> Vec<usize> {
        self.pool.members.lock().unwrap().iter().map(|one| one.answered.load(Ordering::Relaxed)).collect()
    }
}

impl Drop for RoundRobin {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

fn address(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").parse().unwrap()
}

impl Pool {
    fn all(&self) -> Vec<Arc<Member>> {
        self.members.lock().unwrap().clone()
    }

    fn ready(&self) -> Vec<Arc<Member>> {
        self.all().into_iter().filter(|member| member.ready.load(Ordering::Acquire)).collect()
    }

    async fn probe(&self) {
        for member in self.all() {
            let ready = tokio::time::timeout(PROBE_MAX, member.probe()).await;
            match ready {
                Ok(Ok(true)) => member.ready.store(true, Ordering::Release),
                _ => member.leave(),
            }
        }
    }

    async fn forward(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            let ready = self.ready();
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            let Some(member) = ready.get(turn % ready.len().max(1)) else {
                return Err(io::Error::other("no process is ready"));
            };
            let Some(mut stream) = member.connection().await else {
                member.leave();
                continue;
            };
            stream.write_all(request).await?;
            let Some(mut answer) = read_message(&mut stream).await? else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            member.answered.fetch_add(1, Ordering::Relaxed);
            if remove_close(&mut answer) {
                member.leave();
            } else {
                member.idle.lock().unwrap().push(stream);
            }
            return Ok(answer);
        }
    }
}

impl Member {
    /// It gets no more requests until it says that it is ready, and the connections to it that nobody uses are closed.
    fn leave(&self) {
        self.ready.store(false, Ordering::Release);
        self.idle.lock().unwrap().clear();
    }

    /// One that was kept and that it has not closed, or a new one.
    async fn connection(&self) -> Option<TcpStream> {
        loop {
            let kept = self.idle.lock().unwrap().pop();
            let Some(kept) = kept else { return TcpStream::connect(self.address).await.ok() };
            if kept.try_read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                return Some(kept);
            }
        }
    }

    async fn probe(&self) -> io::Result<bool> {
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: probe\r\nconnection: close\r\n\r\n").await?;
        let answer = read_message(&mut stream).await?.unwrap_or_default();
        Ok(answer.starts_with(b"HTTP/1.1 200"))
    }
}

/// One client's connection, which it may use again and again.
async fn serve(pool: Arc<Pool>, mut client: TcpStream) {
    while let Ok(Some(request)) = read_message(&mut client).await {
        let answer = pool.forward(&request).await.unwrap_or_else(|error| {
            let body = format!("{{\"code\":\"ROUND_ROBIN\",\"detail\":\"{error}\"}}");
            format!("HTTP/1.1 502 Bad Gateway\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
        });
        if client.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// A whole request or answer; `None`: the connection ended before one began. All of ours say how long they are.
async fn read_message(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut message = Vec::with_capacity(4096);
    let mut length = None;
    while length.is_none_or(|length| message.len() < length) {
        if message.len() > MESSAGE_MAX || stream.read_buf(&mut message).await? == 0 {
            let nothing = message.is_empty();
            return if nothing { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        length = length.or_else(|| whole(&message));
    }
    Ok(Some(message))
}

/// How long a message is, once its head is there.
fn whole(message: &[u8]) -> Option<usize> {
    let head = message.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&message[..head]).to_ascii_lowercase();
    assert!(!text.contains("\r\ntransfer-encoding:"), "{text}");
    let body = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    Some(head + body.map_or(0, |length| length.trim().parse::<usize>().unwrap()))
}

/// Whether the process closes this connection; its word for that is not for the client.
fn remove_close(answer: &mut Vec<u8>) -> bool {
    const CLOSE: &[u8] = b"connection: close\r\n";
    let at = answer.windows(CLOSE.len()).position(|line| line.eq_ignore_ascii_case(CLOSE));
    at.inspect(|at| drop(answer.drain(*at..*at + CLOSE.len()))).is_some()
}

//! `identityd healthcheck`: for a container that has no other program to ask with.
use super::{Exit, Global, exit::Stop, note};
use anyhow::{Context as _, anyhow, ensure};
use clap::Args;
use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};
use url::Url;

/// For everything together, a name's resolution aside.
const PATIENCE: Duration = Duration::from_secs(3);
/// `HTTP/1.1 200`.
const STATUS_LEN: usize = 12;

#[derive(Args)]
pub(super) struct Options {
    /// Whom to ask, as `http://127.0.0.1:9090/healthz`; by default /healthz of `ops.listen`, else of `http.listen`
    url: Option<Url>,
}

pub(super) fn run(global: &Global, options: Options) -> anyhow::Result<Exit> {
    let url = match options.url {
        Some(url) if url.scheme() == "http" => url,
        Some(_) => return Err(Stop::new(Exit::Usage, "only http:// can be asked").into()),
        None => {
            let config = global.load()?.config;
            format!("http://{}/", here(config.ops.listen.unwrap_or(config.http.listen))).parse()?
        }
    };
    ask(&url).with_context(|| format!("{url} is not well"))?;
    note(format_args!("{url} is well"));
    Ok(Exit::Ok)
}

/// Who listens on every address listens on this machine's own.
fn here(listen: SocketAddr) -> SocketAddr {
    let address = match listen.ip() {
        IpAddr::V4(address) if address.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(address) if address.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        address => address,
    };
    SocketAddr::new(address, listen.port())
}

fn ask(url: &Url) -> anyhow::Result<()> {
    let begun = Instant::now();
    let left = || PATIENCE.checked_sub(begun.elapsed()).filter(|left| !left.is_zero());
    let mut stream = connect(&url.socket_addrs(|| None)?)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let path = if url.path() == "/" { "/healthz" } else { url.path() };
    let host = url.host_str().unwrap_or_default();
    let port = stream.peer_addr()?.port();
    // In one piece: a server may answer and hang up once it has seen enough.
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = [0; STATUS_LEN];
    let mut rest = answer.as_mut_slice();
    while !rest.is_empty() {
        stream.set_read_timeout(Some(left().context("no answer in 3 seconds")?))?;
        let read = stream.read(rest)?;
        ensure!(read > 0, "it hung up");
        rest = rest.get_mut(read..).unwrap_or_default();
    }
    let answer = String::from_utf8_lossy(&answer);
    let status =
        answer.strip_prefix("HTTP/1.").and_then(|rest| rest.split_once(' ')).map(|(_, status)| status);
    ensure!(status == Some("200"), "it answers {answer:?}");
    Ok(())
}

/// A name may have an address on which nobody listens beside the one that is meant.
fn connect(addresses: &[SocketAddr]) -> anyhow::Result<TcpStream> {
    let mut result = Err(anyhow!("the name has no address"));
    for address in addresses {
        result = TcpStream::connect_timeout(address, PATIENCE).map_err(Into::into);
        if result.is_ok() {
            break;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net::TcpListener, thread};

    /// What a server that sends these bytes and hangs up is taken for.
    fn answered(bytes: &'static [u8]) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 256];
            let read = stream.read(&mut request).unwrap();
            assert!(request[..read].starts_with(b"GET /healthz HTTP/1.1\r\n"));
            stream.write_all(bytes).unwrap();
        });
        let result = ask(&url).map_err(|error| format!("{error:#}"));
        server.join().unwrap();
        result
    }

    #[test]
    fn only_200_is_well() {
        assert_eq!(answered(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), Ok(()));
        assert_eq!(
            answered(b"HTTP/1.1 503 Service Unavailable\r\n\r\n"),
            Err("it answers \"HTTP/1.1 503\"".into())
        );
        assert_eq!(answered(b"SSH-2.0-OpenSSH_9.2\r\n"), Err("it answers \"SSH-2.0-Open\"".into()));
        assert_eq!(answered(b"HTTP"), Err("it hung up".into()));
    }

    #[test]
    fn who_listens_everywhere_is_asked_here() {
        assert_eq!(here("0.0.0.0:90".parse().unwrap()), "127.0.0.1:90".parse().unwrap());
        assert_eq!(here("[::]:90".parse().unwrap()), "[::1]:90".parse().unwrap());
        assert_eq!(here("10.0.0.1:90".parse().unwrap()), "10.0.0.1:90".parse().unwrap());
    }
}

//! Where a request comes from, as far as it can be believed.
use crate::{kernel::Source, platform::config::ForwardedHeader};
use actix_web::{HttpRequest, http::header};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

const USER_AGENT_CHARS_MAX: usize = 256;
/// Proxies in front of each other.
const HOPS_MAX: usize = 16;

/// Whose word on where a request comes from is taken, and where it stands.
#[derive(Clone)]
pub struct Proxies {
    pub networks: Vec<IpNet>,
    pub header: ForwardedHeader,
}

/// Reads the address behind trusted proxies, and the user agent.
pub fn of(request: &HttpRequest, proxies: &Proxies) -> Source {
    let agent =
        request.headers().get(header::USER_AGENT).map(|agent| String::from_utf8_lossy(agent.as_bytes()));
    Source {
        address: address(request, proxies),
        user_agent: agent
            .map(|agent| agent.chars().filter(|c| !c.is_control()).take(USER_AGENT_CHARS_MAX).collect()),
    }
}

/// The right-most entry that no trusted proxy wrote: whatever stands left of it was written by the caller. `None`: what
/// stands there is no address, and it is not the proxy's.
fn address(request: &HttpRequest, proxies: &Proxies) -> Option<IpAddr> {
    let peer = request.peer_addr()?.ip().to_canonical();
    let is_trusted = |address: &IpAddr| proxies.networks.iter().any(|network| network.contains(address));
    if !is_trusted(&peer) {
        return Some(peer);
    }
    let mut client = peer;
    for hop in hops(request, proxies.header).into_iter().rev().take(HOPS_MAX) {
        client = hop?.to_canonical();
        if !is_trusted(&client) {
            break;
        }
    }
    Some(client)
}

/// `None` stands for what is no address.
fn hops(request: &HttpRequest, header: ForwardedHeader) -> Vec<Option<IpAddr>> {
    // A line that is no text says nothing, and must not be as if it were not there: then the proxy would be the client.
    let list = |name: header::HeaderName| -> Vec<String> {
        let lines = request.headers().get_all(name).map(|line| line.to_str().unwrap_or_default());
        lines.flat_map(|line| line.split(',')).map(|hop| hop.trim().to_owned()).collect()
    };
    match header {
        ForwardedHeader::XForwardedFor => {
            list(header::X_FORWARDED_FOR).iter().map(|hop| parse(hop)).collect()
        }
        ForwardedHeader::Forwarded => list(header::FORWARDED).iter().map(|hop| parse(for_of(hop)?)).collect(),
    }
}

fn for_of(hop: &str) -> Option<&str> {
    hop.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for").then(|| value.trim_matches('"'))
    })
}

fn parse(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    text.parse()
        .ok()
        .or_else(|| bare.parse().ok())
        .or_else(|| text.parse::<SocketAddr>().ok().map(|at| at.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::{http::header::HeaderValue, test::TestRequest};

    fn seen(peer: &str, headers: &[(&str, &str)], trusted: &[&str]) -> String {
        told(ForwardedHeader::XForwardedFor, peer, headers, trusted)
    }

    fn told(header: ForwardedHeader, peer: &str, headers: &[(&str, &str)], trusted: &[&str]) -> String {
        let mut request = TestRequest::default().peer_addr(peer.parse().unwrap());
        for header in headers {
            request = request.append_header(*header);
        }
        let networks = trusted.iter().map(|network| network.parse().unwrap()).collect();
        let source = of(&request.to_http_request(), &Proxies { networks, header });
        source.address.map_or_else(|| "unknown".to_owned(), |address| address.to_string())
    }

    #[test]
    fn strangers_cannot_choose_their_address() {
        let spoofed = [("x-forwarded-for", "203.0.113.9")];
        assert_eq!(seen("198.51.100.7:1", &spoofed, &[]), "198.51.100.7");
        assert_eq!(seen("198.51.100.7:1", &spoofed, &["10.0.0.0/8"]), "198.51.100.7");
    }

    #[test]
    fn behind_proxies_the_last_untrusted_hop_counts() {
        let chain = [("x-forwarded-for", "1.1.1.1, 203.0.113.9, 10.0.0.2")];
        assert_eq!(seen("10.0.0.1:1", &chain, &["10.0.0.0/8"]), "203.0.113.9");
        let forwarded = [("forwarded", "for=9.9.9.9, for=\"[2001:db8::1]:4711\";proto=https")];
        let by_rfc = |headers: &[(&str, &str)]| {
            told(ForwardedHeader::Forwarded, "10.0.0.1:1", headers, &["10.0.0.0/8"])
        };
        assert_eq!(by_rfc(&forwarded), "2001:db8::1");
        let both = [forwarded[0], ("x-forwarded-for", "203.0.113.9")];
        assert_eq!(by_rfc(&both), "2001:db8::1");
        assert_eq!(seen("10.0.0.1:1", &both, &["10.0.0.0/8"]), "203.0.113.9", "the caller's own is ignored");
        let mapped = [("x-forwarded-for", "203.0.113.9, ::ffff:10.0.0.2")];
        assert_eq!(
            seen("[::ffff:10.0.0.1]:1", &mapped, &["10.0.0.0/8"]),
            "203.0.113.9",
            "of a socket for both"
        );
        let garbled = [("x-forwarded-for", "203.0.113.9, unknown")];
        assert_eq!(seen("10.0.0.1:1", &garbled, &["10.0.0.0/8"]), "unknown", "and not the proxy's own");
        let bytes = HeaderValue::from_bytes(b"\xff, 10.0.0.2").unwrap();
        let request = TestRequest::default().peer_addr("10.0.0.1:1".parse().unwrap());
        let request = request.insert_header((header::X_FORWARDED_FOR, bytes)).to_http_request();
        let networks = vec!["10.0.0.0/8".parse().unwrap()];
        let proxies = Proxies { networks, header: ForwardedHeader::XForwardedFor };
        assert_eq!(of(&request, &proxies).address, None, "nor where the line is no text");
    }
}

//! A session's network from both sides: what a program inside tries, and what arrives outside.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod inside;

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::time::Duration;

use cordon_sandbox::child::Child;
use cordon_sandbox::network::{
    self, CAPTURE_V4, CAPTURE_V6, HTTP, Listeners, OWN_ADDRESS, SOCKS, enter,
};
use inside::{Inside, User, start, users};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{ip_original_dst, ipv6_original_dst};
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket};

const LONG: Duration = Duration::from_secs(10);

/// A child in a network of its own that does `work`, and its listeners.
fn session(user: User, work: impl FnOnce() -> String) -> (Inside, Listeners) {
    let inside = start(user, |talk| match enter() {
        Ok(listeners) => {
            listeners.send(&*talk).unwrap();
            drop(listeners);
            work()
        }
        Err(error) => {
            error.send(&*talk).unwrap();
            String::new()
        }
    });
    let listeners = Listeners::receive(&inside.talk).unwrap();
    (inside, listeners)
}

fn connect(to: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to.parse().unwrap(), LONG)?;
    stream.set_read_timeout(Some(LONG))?;
    Ok(stream)
}

/// Says "ping" and hears the answer.
fn talk_to(to: &str) -> String {
    let heard = connect(to).and_then(|mut stream| {
        stream.write_all(b"ping")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    });
    heard.unwrap_or_else(|error| format!("{:?}", error.kind()))
}

fn readable(fd: impl AsFd, within: Duration) -> bool {
    let within = Timespec::try_from(within).unwrap();
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&within)).unwrap() == 1
}

fn accept(listener: OwnedFd) -> TcpStream {
    assert!(readable(&listener, LONG), "nothing arrived");
    let (stream, _) = TcpListener::from(listener).accept().unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

fn answer_ping(stream: &mut TcpStream) {
    let mut heard = [0; 4];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"ping");
    stream.write_all(b"pong").unwrap();
}

fn nothing_arrived(listeners: Listeners) {
    for fd in listeners.into_fds() {
        assert!(!readable(fd, Duration::ZERO), "something arrived");
    }
}

#[test]
fn n16_tcp_without_a_proxy_arrives_with_the_destination_it_meant() {
    for user in users() {
        let (inside, listeners) = session(user, || talk_to("203.0.113.7:8080"));
        let mut stream = accept(listeners.capture_v4);
        let meant = ip_original_dst(&stream).unwrap();
        assert_eq!(meant.to_string(), "203.0.113.7:8080", "{user:?}");
        assert_eq!(stream.local_addr().unwrap(), CAPTURE_V4);
        assert_eq!(stream.peer_addr().unwrap().ip(), IpAddr::V4(OWN_ADDRESS));
        answer_ping(&mut stream);
        drop(stream);
        assert_eq!(inside.saw(), "pong", "{user:?}");
    }
}

#[test]
fn n16_ipv6_tcp_arrives_with_the_destination_it_meant() {
    for user in users() {
        let (inside, listeners) = session(user, || talk_to("[2001:db8::7]:8080"));
        let Some(capture) = listeners.capture_v6 else {
            // A host without IPv6: then it must not work inside either.
            assert_ne!(inside.saw(), "pong");
            continue;
        };
        let mut stream = accept(capture);
        let meant = ipv6_original_dst(&stream).unwrap();
        assert_eq!(meant.to_string(), "[2001:db8::7]:8080", "{user:?}");
        answer_ping(&mut stream);
        drop(stream);
        assert_eq!(inside.saw(), "pong", "{user:?}");
    }
}

#[test]
fn n16_every_spelling_of_a_destination_outside_is_captured() {
    let table = [
        ("10.0.0.1:22", "10.0.0.1:22"),
        ("169.254.169.254:80", "169.254.169.254:80"),
        ("198.18.0.7:443", "198.18.0.7:443"),
        ("8.8.8.8:53", "8.8.8.8:53"),
        ("128.0.0.1:80", "128.0.0.1:80"),
        ("126.255.255.255:80", "126.255.255.255:80"),
        ("[::ffff:203.0.113.7]:80", "203.0.113.7:80"),
    ];
    for (to, meant) in table {
        let (inside, listeners) = session(User::Same, || talk_to(to));
        let mut stream = accept(listeners.capture_v4);
        assert_eq!(ip_original_dst(&stream).unwrap().to_string(), meant);
        answer_ping(&mut stream);
        drop(stream);
        assert_eq!(inside.saw(), "pong", "{to}");
    }
}

#[test]
fn the_proxies_are_reached_by_their_addresses() {
    for user in users() {
        let (inside, listeners) = session(user, || {
            format!(
                "{} {}",
                talk_to(&HTTP.to_string()),
                talk_to(&SOCKS.to_string())
            )
        });
        for listener in [listeners.http, listeners.socks] {
            answer_ping(&mut accept(listener));
        }
        assert_eq!(inside.saw(), "pong pong", "{user:?}");
    }
}

#[test]
fn n26_a_direct_connection_to_the_capture_means_the_listener_itself() {
    for direct in [CAPTURE_V4, CAPTURE_V6] {
        let (inside, listeners) = session(User::Same, || talk_to(&direct.to_string()));
        let capture = match direct {
            SocketAddr::V4(_) => Some(listeners.capture_v4),
            SocketAddr::V6(_) => listeners.capture_v6,
        };
        let Some(capture) = capture else { continue };
        let mut stream = accept(capture);
        let meant = match direct {
            SocketAddr::V4(_) => ip_original_dst(&stream).map(SocketAddr::V4),
            SocketAddr::V6(_) => ipv6_original_dst(&stream).map(SocketAddr::V6),
        };
        // So whoever dials what was meant must refuse these addresses, or would dial itself.
        assert_eq!(meant.unwrap(), direct);
        answer_ping(&mut stream);
        drop(stream);
        assert_eq!(inside.saw(), "pong", "{direct}");
    }
}

#[test]
fn n16_n11_udp_gets_an_error_at_once_and_only_name_queries_arrive() {
    for user in users() {
        let (inside, listeners) = session(user, || {
            let v4 = UdpSocket::bind("0.0.0.0:0").unwrap();
            let kind = |result: io::Result<usize>| match result {
                Ok(bytes) => format!("sent {bytes}"),
                Err(error) => format!("{:?}", error.kind()),
            };
            let mut saw = vec![
                kind(v4.send_to(b"out", "203.0.113.7:9999")),
                kind(v4.send_to(b"out", "203.0.113.7:443")),
                kind(v4.send_to(b"out", "224.0.0.251:5353")),
            ];
            if let Ok(v6) = UdpSocket::bind("[::]:0") {
                let sent = [
                    v6.send_to(b"out", "[2001:db8::7]:9999"),
                    v6.send_to(b"out", "[2001:db8::7]:53"),
                ];
                assert!(sent.iter().all(Result::is_err), "{sent:?}");
            }
            // Controls: its own loopback, and a name query.
            let own = UdpSocket::bind("127.0.0.1:0").unwrap();
            saw.push(kind(v4.send_to(b"own", own.local_addr().unwrap())));
            saw.push(kind(v4.send_to(b"query", "8.8.8.8:53")));
            saw.join(", ")
        });
        let dns = UdpSocket::from(listeners.dns);
        dns.set_read_timeout(Some(LONG)).unwrap();
        let mut buffer = [0; 64];
        let (length, from) = dns.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"query");
        assert_eq!(from.ip(), IpAddr::V4(OWN_ADDRESS));
        let refused = "PermissionDenied, PermissionDenied, PermissionDenied";
        assert_eq!(
            inside.saw(),
            format!("{refused}, sent 3, sent 5"),
            "{user:?}"
        );
    }
}

#[test]
fn n11_the_answer_to_a_query_comes_from_the_server_that_was_asked() {
    for user in users() {
        let (inside, listeners) = session(user, || {
            // Not connected, as a careful resolver: it looks where the answer comes from.
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(LONG)).unwrap();
            let mut saw = Vec::new();
            for server in ["8.8.8.8:53", "127.0.0.1:53"] {
                socket.send_to(b"query", server).unwrap();
                let mut buffer = [0; 64];
                let (length, from) = socket.recv_from(&mut buffer).unwrap();
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                saw.push(format!("{text} from {from}"));
            }
            saw.join(", ")
        });
        let dns = UdpSocket::from(listeners.dns);
        dns.set_read_timeout(Some(LONG)).unwrap();
        for _ in 0..2 {
            let mut buffer = [0; 64];
            let (_, from) = dns.recv_from(&mut buffer).unwrap();
            dns.send_to(b"answer", from).unwrap();
        }
        let expected = "answer from 8.8.8.8:53, answer from 127.0.0.1:53";
        assert_eq!(inside.saw(), expected, "{user:?}");
    }
}

#[test]
fn n17_loopback_inside_is_the_sessions_own() {
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = outside.local_addr().unwrap();
    for user in users() {
        let (inside, listeners) = session(user, || {
            let own = TcpListener::bind("0.0.0.0:0").unwrap();
            let port = own.local_addr().unwrap().port();
            let saw = [
                talk_to(&address.to_string()),
                talk_to(&SocketAddr::new(IpAddr::V4(OWN_ADDRESS), address.port()).to_string()),
                connect(&format!("127.0.0.1:{port}")).map_or(String::new(), |_| "own".into()),
                connect(&format!("{OWN_ADDRESS}:{port}")).map_or(String::new(), |_| "own".into()),
            ];
            saw.join(" ")
        });
        let expected = "ConnectionRefused ConnectionRefused own own";
        assert_eq!(inside.saw(), expected, "{user:?}");
        assert!(
            !readable(&outside, Duration::ZERO),
            "the host's loopback was reached"
        );
        nothing_arrived(listeners);
    }
    // Control: the listener outside does listen.
    drop(connect(&address.to_string()).unwrap());
    assert!(readable(&outside, LONG));
}

#[test]
fn n18_two_sessions_have_listeners_of_their_own() {
    let (first, first_listeners) = session(User::Same, || talk_to("203.0.113.7:1"));
    let (second, second_listeners) = session(User::Same, || talk_to("203.0.113.7:2"));
    for (listeners, port) in [(second_listeners, 2), (first_listeners, 1)] {
        let mut stream = accept(listeners.capture_v4);
        assert_eq!(ip_original_dst(&stream).unwrap().port(), port);
        answer_ping(&mut stream);
    }
    assert_eq!((first.saw(), second.saw()), ("pong".into(), "pong".into()));
}

#[test]
fn n16_icmp_is_refused_even_to_a_holder_of_capabilities() {
    for user in users() {
        let (inside, _listeners) = session(user, || {
            let raw = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP)).unwrap();
            // Echo request, identifier and sequence zero, with its checksum.
            let echo = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
            let to = |address: &str| {
                let address: SocketAddr = address.parse().unwrap();
                sendto(&raw, &echo, SendFlags::empty(), &address)
            };
            format!("{:?} {:?}", to("203.0.113.7:0"), to("127.0.0.1:0"))
        });
        assert_eq!(
            inside.saw(),
            "Err(Os { code: 1, kind: PermissionDenied, message: \"Operation not permitted\" }) Ok(8)",
            "{user:?}"
        );
    }
}

#[test]
fn the_kernel_holds_the_rules_that_the_source_shows() {
    let nft = |arguments: &[&str]| Command::new("nft").args(arguments).output();
    if nft(&["--version"]).is_err() || !rustix::process::geteuid().is_root() {
        eprintln!("not run: needs the program nft, and root (which keeps capabilities on exec)");
        return;
    }
    let (inside, _listeners) = session(User::Same, || {
        let output = nft(&["list", "ruleset"]).unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    });
    // Older programs print the priority as a number.
    let saw = inside.saw().replace("priority -100", "priority dstnat");
    let expected = "table inet cordon {
        chain capture {
        type nat hook output priority dstnat; policy accept;
        ip daddr 127.0.0.0/8 accept
        ip daddr 192.0.2.1 accept
        ip6 daddr ::1 accept
        meta nfproto ipv4 meta l4proto tcp redirect to :3129
        meta nfproto ipv6 meta l4proto tcp redirect to :3129
        meta nfproto ipv4 udp dport 53 redirect
        }
        chain walls {
        type filter hook output priority filter; policy drop;
        ip daddr 127.0.0.0/8 accept
        ip daddr 192.0.2.1 accept
        ip6 daddr ::1 accept
        reject with icmpx admin-prohibited
        }
        }";
    let lines = |text: &'static str| text.lines().map(str::trim);
    let saw = saw.lines().map(str::trim).filter(|line| !line.is_empty());
    assert_eq!(saw.collect::<Vec<_>>(), lines(expected).collect::<Vec<_>>());
}

#[test]
fn n16_a_program_behind_bubblewrap_reaches_the_capture_and_cannot_change_the_network() {
    let script = "
        exec 3<>/dev/tcp/203.0.113.7/80 && printf ping >&3 && cat <&3; echo
        nft flush ruleset 2>/dev/null && echo flushed
        ip link set lo down 2>/dev/null && echo down
        ip route del default 2>/dev/null && echo unrouted
        unshare --user --net true 2>/dev/null && echo unshared
        grep CapEff: /proc/self/status";
    let bubblewrap = "--unshare-user --disable-userns --unshare-pid --unshare-ipc --unshare-uts \
        --cap-drop ALL --ro-bind / / --proc /proc --dev /dev bash -c";
    for user in users() {
        let (inside, listeners) = session(user, || {
            let arguments = bubblewrap.split_whitespace();
            let output = Command::new("bwrap")
                .args(arguments)
                .arg(script)
                .output()
                .unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            format!("{error}{}", String::from_utf8_lossy(&output.stdout))
        });
        let mut stream = accept(listeners.capture_v4);
        assert_eq!(
            ip_original_dst(&stream).unwrap().to_string(),
            "203.0.113.7:80"
        );
        answer_ping(&mut stream);
        drop(stream);
        assert_eq!(
            inside.saw(),
            "pong\nCapEff:\t0000000000000000\n",
            "{user:?}"
        );
    }
    // Control: without bubblewrap and as root, capabilities are kept and the same commands work.
    if rustix::process::geteuid().is_root() {
        let (inside, _listeners) = session(User::Same, || {
            let down = Command::new("ip")
                .args(["link", "set", "lo", "down"])
                .status();
            format!("{}", down.unwrap().success())
        });
        assert_eq!(inside.saw(), "true");
    }
}

#[test]
fn f15_the_check_passes_here_and_names_the_setting_that_forbids() {
    for user in users() {
        let saw = start(user, |_| match network::check() {
            Ok(()) => "passed".to_owned(),
            Err(error) => format!("{error}; {}", error.hint()),
        });
        assert_eq!(saw.saw(), "passed", "{user:?}");

        // In its own user namespace a process may forbid itself the next one.
        let saw = start(user, |_| {
            let _listeners = enter().unwrap();
            std::fs::write("/proc/sys/user/max_user_namespaces", "0").unwrap();
            match network::check() {
                Ok(()) => "passed".to_owned(),
                Err(error) => format!("{error}; {}", error.hint()),
            }
        })
        .saw();
        assert!(
            saw.contains("`user/max_user_namespaces` is 0"),
            "{user:?}: {saw}"
        );
        assert!(
            saw.contains("sysctl -w user.max_user_namespaces="),
            "{user:?}: {saw}"
        );
    }
}

#[test]
fn a_dropped_child_is_ended_and_reaped() {
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let child = Child::fork(|| {
        let mut theirs = &theirs;
        let _end = theirs.read(&mut [0; 1]);
        0
    })
    .unwrap();
    drop(theirs);
    drop(child);
    // Its end of the socket is closed, so it is gone.
    assert_eq!(ours.read(&mut [0; 1]).unwrap(), 0);
}

//! The network that tests of several regions run in delays, loses and cuts as it is told.
//!
//! Not here: what is tested in it (`regions`).
#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, reason = "driver: reads the clock")]
#![allow(clippy::expect_used, reason = "a test: what is not there fails it")]

use std::process::Command;
use std::time::{Duration, Instant};

use headwater_tests::wan::link::Fault;
use headwater_tests::wan::{Link, Network, Place};

/// Sends datagrams and waits for their return; says how many came, and the median's milliseconds.
const ASK: &str = "
import socket, sys, time, statistics
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.2)
times = []
for i in range(int(sys.argv[2])):
    began = time.monotonic(); s.sendto(b'%d' % i, (sys.argv[1], 9))
    try: s.recv(99); times.append((time.monotonic() - began) * 1000)
    except TimeoutError: pass
print(len(times), statistics.median(times) if times else -1)";
const ANSWER: &str = "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 9)); print('ready', flush=True)
while True: s.sendto(*s.recvfrom(99))";

fn on(host: &str, program: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", host, "python3", "-c", program]);
    command
}

fn ask(network: &Network, from: &str, to: &str, times: u32) -> (u32, f64) {
    let address = network.host_named(to).expect("a host").address;
    let host = network.host_named(from).expect("a host").namespace();
    let output = on(host, ASK).args([address.to_string(), times.to_string()]).output();
    let text = String::from_utf8(output.expect("python").stdout).expect("text");
    let (count, median) = text.trim().split_once(' ').expect("two numbers");
    (count.parse().expect("a number"), median.parse().expect("a number"))
}

#[test]
fn a_network_of_two_regions_delays_loses_and_cuts_as_it_is_told() {
    let root = Command::new("unshare").args(["-n", "true"]).status();
    if !root.is_ok_and(|status| status.success()) {
        println!("SKIPPED: no network namespace can be made here (root, unshare and ip)");
        return;
    }
    let places = [Place::new("a1", "a"), Place::new("a2", "a"), Place::new("b1", "b")];
    let near = Link::delayed(Duration::from_millis(1));
    let far = Link::delayed(Duration::from_millis(40));
    let prefix = format!("w{}-", std::process::id() % 100_000);
    let network = Network::make(&prefix, &places, (near, far), 1).expect("a network");
    let mut echo: Vec<_> = ["a2", "b1"]
        .map(|name| {
            let host = network.host_named(name).expect("a host").namespace();
            on(host, ANSWER).stdout(std::process::Stdio::piped()).spawn().expect("python")
        })
        .into();
    let began = Instant::now();
    while ask(&network, "a1", "a2", 1).0 == 0 || ask(&network, "a1", "b1", 1).0 == 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "nobody answers");
    }

    let (count, median) = ask(&network, "a1", "a2", 50);
    assert_eq!(count, 50);
    assert!((2.0..12.0).contains(&median), "1 ms each way took {median} ms");
    let (count, median) = ask(&network, "a1", "b1", 20);
    assert_eq!(count, 20);
    assert!((80.0..95.0).contains(&median), "40 ms each way took {median} ms");

    network.fault("a", "b", Fault::Like(near.losing(500_000))).expect("regions");
    let (count, _) = ask(&network, "a1", "b1", 20);
    assert!((1..14).contains(&count), "{count} of 20 came back, half being lost each way");
    network.fault("a1", "b", Fault::Cut).expect("a host and a region");
    assert_eq!(ask(&network, "a1", "b1", 2).0, 0);
    network.mend_all();
    assert_eq!(ask(&network, "a1", "b1", 5).0, 5);
    for child in &mut echo {
        child.kill().expect("it runs");
        child.wait().expect("it ends");
    }
}

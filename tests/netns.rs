//! Two hosts, as far as the kernel can pretend: two network namespaces joined by a veth pair.

mod common;

use std::path::Path;
use std::process::Command;

use common::{ONE_CELL, QUICK, at_home, folder, names_in, read_result, run_bounded};

/// What tests/netns.sh ends with when this machine does not let it.
const SKIPPED: i32 = 77;

#[test]
fn a_link_between_two_namespaces_is_measured_as_a_network() {
    let folder = folder();
    let result = folder.path().join("run.json");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/netns.sh");
    let mut command = Command::new("sh");
    command.arg(script).arg(env!("CARGO_BIN_EXE_linerate")).arg(&result).args(QUICK).args(&ONE_CELL[..4]);
    let home = folder.path().join("home");
    let done = run_bounded(at_home(&mut command, &home).env_remove("LINERATE_TICKET").current_dir(folder.path()));
    if done.code == Some(SKIPPED) {
        return println!("skipped: {}", done.stdout.trim());
    }
    let done = done.expect(0);
    assert!(done.stdout.contains("linerate bench against 10.0.0.2:5290 ·"), "{done:#?}");
    assert!(done.stderr.contains("served 1 sessions, 2 jobs"), "the server ends in order: {done:#?}");

    let document = read_result(&result);
    assert!(document.complete && !document.settings.loopback);
    assert_eq!(document.settings.peer, "10.0.0.2:5290");
    assert_ne!(document.settings.congestion, "", "the system's own, whatever it is");
    let cell = &document.cells[0];
    assert!(cell.unavailable.is_none() && cell.throughput.as_ref().is_some_and(|rate| rate.median_bytes_per_s > 0.0));
    assert!(!cell.labels.iter().any(|label| label == "loopback"), "{:?}", cell.labels);
    assert!(document.latency[0].count > 0 && document.latency[0].labels.is_empty(), "{:?}", document.latency[0]);
    let ends = [(&document.environment.client, "near", "10.0.0.1"), (&document.environment.server, "far", "10.0.0.2")];
    for (end, name, address) in ends {
        let nic = end.nic.as_ref().unwrap_or_else(|| panic!("{name}: no device is named"));
        assert_eq!((nic.name.as_str(), nic.address.as_str()), (name, address));
        assert_eq!((nic.driver.as_deref(), nic.mtu_bytes), (Some("veth"), Some(1400)), "{nic:?}");
    }
    // 1400 bytes less the headers of IP and TCP.
    let mss = cell.tcp.as_ref().unwrap().mss_bytes;
    assert!((1300..=1360).contains(&mss), "{mss}");
    assert!(document.settings.server_known, "by its ticket");
    assert_eq!(names_in(folder.path()), ["home", "run.json"]);
}

//! Result files of earlier versions still read and render.

use std::path::Path;

use linerate::report::terminal::{Style, render};
use linerate::report::{read, schema::Document};

fn stored(name: &str) -> Document {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    read(&path).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn schema_0_reads_with_what_it_left_out_as_unsaid() {
    let document = stored("bench-schema-0.json");
    assert_eq!(document.schema, "linerate.bench/0");
    assert!(document.complete);
    assert_eq!(document.settings, Default::default());
    assert_eq!(document.cells.len(), 4);
    assert_eq!(document.cells[0].cpu.sender_s_per_gib, None);
    assert_eq!(document.latency[0].labels, [""; 0]);
}

#[test]
fn schema_0_renders_with_intervals_from_its_rounds() {
    let text = render(&stored("bench-schema-0.json"), &Style::plain());
    for line in [
        "linerate bench against an unnamed peer",
        " method     4KiB     64KiB",
        " write      8.10*     20.1",
        " sendfile   7.05      21.3**",
        "Fastest: sendfile at 64KiB, 21.3 Gbit/s [21.1-21.6].",
    ] {
        assert!(text.lines().any(|found| found == line), "no line `{line}` in:\n{text}");
    }
    assert!(!text.contains("CPU s/GiB"));
}

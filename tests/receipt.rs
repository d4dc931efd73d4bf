//! Receipts of earlier versions still read, and what is no receipt is refused.

use std::path::{Path, PathBuf};

use linerate::report::receipt::{self, Receipt, Verified};

fn stored(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn read(name: &str) -> Receipt {
    receipt::read(&stored(name)).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn schema_1_reads_as_the_client_wrote_it() {
    let receipt = read("receipt-schema-1-client.json");
    assert_eq!(receipt.schema, receipt::SCHEMA);
    assert_eq!((receipt.verified, receipt.complete, receipt.exit_code), (Verified::Proven(true), true, Some(0)));
    assert_eq!((receipt.totals.found.files, receipt.totals.done.bytes), (3, 1_049_600));
    assert_eq!(receipt.digest.agree, Some(true));
    assert_eq!(receipt.skips.first[0].name.path_base64.as_deref(), Some("YSBmaWZv/w=="));
    let stages: Vec<&str> = receipt.source.iter().flat_map(|end| &end.stages).map(|s| s.stage.as_str()).collect();
    assert!(stages.contains(&"read") && stages.contains(&"hash"), "{stages:?}");
}

#[test]
fn schema_1_reads_as_the_server_wrote_it() {
    let receipt = read("receipt-schema-1-server.json");
    assert_eq!(receipt.run, read("receipt-schema-1-client.json").run);
    assert_eq!((receipt.source.is_some(), receipt.destination.is_some()), (false, true));
    assert_eq!((receipt.exit_code, receipt.digest.agree), (None, None));
}

#[test]
fn what_is_written_reads_back_and_has_every_field_of_the_table() {
    let text = std::fs::read_to_string(stored("receipt-schema-1-client.json")).unwrap();
    let written: serde_json::Value = serde_json::from_str(&text).unwrap();
    let receipt: Receipt = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::from_str::<Receipt>(&receipt::keep::to_json(&receipt)).unwrap(), receipt);
    let source = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/transfer/receipt/mod.rs"));
    let table: String = source.unwrap().lines().take_while(|line| line.starts_with("//!")).collect();
    for field in written.as_object().unwrap().keys() {
        assert!(table.contains(&format!("`{field}`")), "the table does not know {field}");
    }
}

#[test]
fn what_is_no_receipt_is_refused_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("receipt.json");
    for (text, expected) in [
        (r#"{"schema":"linerate.bench/1"}"#, "its schema is `linerate.bench/1`, and no receipt"),
        (r#"{"schema":"linerate.receipt/2"}"#, "its schema is `linerate.receipt/2`: use a newer linerate"),
        (r#"{"schema":"linerate.receipt/1"}"#, "missing field"),
        ("", "is not JSON, or cut off"),
    ] {
        std::fs::write(&path, text).unwrap();
        let message = receipt::read(&path).unwrap_err().to_string();
        assert!(message.contains("receipt.json") && message.contains(expected), "{message}");
    }
}

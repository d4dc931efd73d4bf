//! Both ends of a copy keep a receipt, also of one that is broken off.

mod common;

use common::copy::Site;
use common::proxy::CLEAR_UP;
use common::tree::Tree;
use common::wait_until;
use linerate::report::receipt::{self, Keeper, Receipt, Verified};

/// The receipts that the server has kept, oldest first.
fn kept(site: &Site, home: &str) -> Vec<Receipt> {
    let folder = site.near("").parent().unwrap().join(home).join("state/linerate/receipts");
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    paths.iter().map(|path| receipt::read(path).unwrap()).collect()
}

#[test]
fn both_ends_keep_a_receipt_of_the_same_copy() {
    let site = Site::new();
    Tree::at(site.near("tree")).file("a", b"1").file("b", b"22").settle();
    for words in [["tree", "@there"], ["@there", "back"]] {
        site.runs(&words);
    }
    wait_until("the server has written its receipts", || kept(&site, "home").len() == 2);
    let (near, far) = (kept(&site, "away"), kept(&site, "home"));
    assert_eq!(near.len(), 2);
    for (near, far) in near.iter().zip(&far) {
        assert_eq!((near.written_by, far.written_by), (Keeper::Client, Keeper::Server));
        assert_eq!((&near.run, &near.totals, &near.digest.proven), (&far.run, &far.totals, &far.digest.proven));
        assert_eq!((near.verified, far.verified), (Verified::Proven(true), Verified::Proven(true)));
        assert_eq!((near.digest.agree, near.totals.done.files), (Some(true), 2));
    }
    // Each knows its own part.
    let chosen = |receipt: &Receipt, option: &str| {
        let found: Vec<_> = receipt.settings.choices.iter().filter(|choice| choice.option == option).collect();
        assert!(found.iter().all(|choice| !choice.reason.is_empty()), "{found:?}");
        assert!(found.len() <= 1, "{found:?}");
        found.first().map(|choice| choice.value.clone())
    };
    for receipt in &near {
        for option in ["streams", "block", "durability", "method", "direct"] {
            assert!(chosen(receipt, option).is_some(), "{option}: {receipt:?}");
        }
        assert_eq!(chosen(receipt, "method").as_deref(), Some("TLS buffer"));
    }
    assert!(far.iter().all(|receipt| chosen(receipt, "streams").is_some()));
    assert!(chosen(&far[0], "direct").is_some() && chosen(&far[0], "method").is_none());
    assert!(chosen(&far[1], "method").is_some() && chosen(&far[1], "direct").is_none());
    let local = site.receipt(&["tree", "here"]);
    let text = local["settings"]["choices"].to_string();
    for words in ["\"streams\"", "\"direct\"", "\"method\"", "\"hashing\"", "hashed once"] {
        assert!(text.contains(words), "{text}");
    }
    let clear = site.receipt(&["--clear", "--compress", "auto", "tree", "@clear"]);
    let text = clear["settings"]["choices"].to_string();
    assert!(text.contains("sendfile") && text.contains("auto: "), "{text}");
    assert!(far[0].destination.is_some() && far[0].source.is_none());
    assert!(far[1].source.is_some() && far[1].destination.is_none());
}

#[test]
fn what_is_broken_off_has_a_receipt_that_says_so() {
    let site = Site::new();
    Tree::at(site.near("tree")).noise("big", 64 << 20, 1).settle();
    let running = site.held(CLEAR_UP, 1 << 20, &["--clear", "tree", "@there"]);
    running.signal(libc::SIGKILL);
    running.finish();
    site.proxy.go_on();
    wait_until("the server has written its receipt", || !kept(&site, "home").is_empty());
    let receipt = kept(&site, "home").remove(0);
    assert_eq!((receipt.complete, receipt.verified), (false, Verified::Proven(false)));
    assert!(receipt.why.is_some() && receipt.totals.done.files == 0);
}

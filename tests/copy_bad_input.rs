//! What makes no sense to `linerate copy`: one line that says so, the right exit code, and nothing is lost.

mod common;

use common::copy::Site;
use common::tree::Tree;

#[test]
fn bad_input_is_one_line_and_nothing_is_lost() {
    let site = Site::new();
    let tree = Tree::at(site.near(""));
    tree.file("file", b"kept").file("dir/f", b"1").file("dir/sub/g", b"2").file("other/f", b"3").dir("to").settle();
    Tree::at(site.far("")).file("file", b"kept").settle();
    let table: [(&[&str], i32, &[&str]); 23] = [
        (&["none/", "new/"], 1, &["none/", "no such file or folder"]),
        (&["dir", "none/new"], 1, &["none", "make it first"]),
        (&["dir/f", "file/"], 1, &["file/", "is no folder", "/ at the end"]),
        (&["dir/f", "@file/"], 1, &["file", "is no folder", "/ at the end"]),
        (&["dir", "dir/sub/new"], 1, &["dir", "into itself"]),
        (&["dir", "dir"], 1, &["dir", "into itself"]),
        (&["file", "file"], 1, &["file", "is the destination, too"]),
        (&["dir/f", "other/f", "file"], 1, &["file", "is no folder"]),
        (&["dir/f", "missing", "file"], 1, &["file", "is no folder"]),
        (&["dir/f", "missing", "@file"], 1, &["file", "is no folder"]),
        (&["dir/f", "other/f", "to"], 3, &["f", "two sources have this name"]),
        (&["", "new"], 2, &["an empty path"]),
        (&["dir", ""], 2, &["an empty path"]),
        (&["dir", "-"], 2, &["dir", "only one file"]),
        (&["dir", "file", "-"], 2, &["only one file"]),
        (&["dir", "lr://"], 2, &["no host", "lr://HOST"]),
        (&["lr://127.0.0.1:99999/x", "new"], 2, &["127.0.0.1:99999", "no host"]),
        (&["--limit", "0", "dir", "new"], 2, &["--limit 0", "leave it out"]),
        (&["--streams", "0", "dir", "new"], 2, &["--streams", "1..=256"]),
        (&["--block", "3", "dir", "new"], 2, &["--block", "64KiB to 16MiB"]),
        (&["--include", "[", "dir", "new"], 2, &["the pattern [", "write one such as"]),
        (&["--receipt", "none/receipt", "dir", "new"], 1, &["none/receipt", "the receipt cannot be written"]),
        (&["--manifest", "none/sums", "dir", "new"], 1, &["none/sums", "--manifest"]),
    ];
    for (words, code, said) in table {
        let done = site.run(words).expect(code);
        let mut lines = done.stderr.lines().filter(|line| !line.is_empty() && !line.starts_with("For more"));
        let (line, more) = (lines.next().unwrap_or_default(), lines.next());
        assert!(more.is_none() && said.iter().all(|said| line.contains(said)), "{words:?}: {done:#?}");
        assert!(!site.near("new").exists(), "{words:?} made something");
    }
    let left = [site.near("file"), site.far("file"), site.near("dir/f"), site.near("other/f")]
        .map(|path| std::fs::read(path).unwrap());
    assert_eq!(left, [&b"kept"[..], b"kept", b"1", b"3"]);
}

//! What the tests of `linerate copy` share: a daemon that serves a folder, a proxy in front of it, and clients.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::proxy::{Proxy, Which};
use super::tree::{What, assert_same, no_temporaries};
use super::{Done, Running, Serving, at_home, linerate, run_bounded};

/// Data streams that a test can see into, and tell from control.
pub const CLEAR: [&str; 1] = ["--clear"];

/// Two sites: `far` is what a daemon serves, through a proxy; `near` is where clients run.
pub struct Site {
    dir: TempDir,
    serving: Option<Serving>,
    options: Vec<OsString>,
    pub proxy: Proxy,
    ticket: String,
}

impl Site {
    /// A daemon that gives every right.
    pub fn new() -> Site {
        Site::with(&["--allow", "read,write"])
    }

    /// A daemon with these options.
    pub fn with(options: &[&str]) -> Site {
        Site::in_folder(super::folder(), options)
    }

    /// The same, whose files are in that folder.
    pub fn in_folder(dir: TempDir, options: &[&str]) -> Site {
        for folder in ["near", "far"] {
            let path = dir.path().join(folder);
            std::fs::create_dir_all(path).unwrap();
        }
        let options: Vec<OsString> = options.iter().map(OsString::from).collect();
        // A ticket that outlives the daemon, since a test may kill that.
        let mut making = linerate(["ticket", "new", "--allow", "read,write"]);
        let ticket = run_bounded(at_home(&mut making, &dir.path().join("home"))).expect(0).stdout.trim().to_string();
        let serving = serve(dir.path(), &options);
        let proxy = Proxy::start(serving.address());
        Site { dir, serving: Some(serving), options, proxy, ticket }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A path at the clients' site.
    pub fn near(&self, path: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join("near").join(path)
    }

    /// A path in the served folder.
    pub fn far(&self, path: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join("far").join(path)
    }

    /// A path in the served folder, as clients name it.
    pub fn url(&self, path: &str) -> String {
        format!("lr://{}/{path}", self.proxy.address())
    }

    /// Where the daemon itself listens.
    pub fn address(&self) -> SocketAddr {
        self.serving.as_ref().expect("it runs").address()
    }

    pub fn server(&self) -> u32 {
        self.serving.as_ref().expect("it runs").pid()
    }

    /// Kill the daemon, and start it anew. Whoever asks meanwhile is turned away.
    pub fn restart_server(&mut self) {
        self.proxy.lead_to(None);
        self.serving.take().expect("it runs").kill();
        self.serving = Some(serve(self.dir.path(), &self.options));
        self.proxy.lead_to(Some(self.address()));
    }

    /// `linerate` with these words, at the clients' site, with the ticket.
    pub fn command<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = linerate(words);
        at_home(&mut command, &self.dir.path().join("away")).current_dir(self.near(""));
        command.env("LINERATE_TICKET", &self.ticket);
        command
    }

    /// `linerate copy` with these words. `@` at the start of one stands for the served folder.
    pub fn copy(&self, words: &[&str]) -> Command {
        let words = words.iter().map(|word| match word.strip_prefix('@') {
            Some(path) => self.url(path),
            None => word.to_string(),
        });
        let mut command = self.command(["copy", "--quiet"]);
        command.args(words);
        command
    }

    /// Run it to its end.
    pub fn run(&self, words: &[&str]) -> Done {
        run_bounded(&mut self.copy(words))
    }

    /// Run it; all must be proven, and nothing said.
    #[track_caller]
    pub fn runs(&self, words: &[&str]) -> Done {
        let done = self.run(words).expect(0);
        assert_eq!(done.stderr, "", "{words:?}");
        done
    }

    /// Start it.
    pub fn start(&self, words: &[&str]) -> Running {
        Running::start(&mut self.copy(words))
    }

    /// Start it, and wait until those bytes are held after so many.
    #[track_caller]
    pub fn held(&self, which: Which, bytes: u64, words: &[&str]) -> Running {
        self.proxy.hold_after(which, bytes);
        let mut running = self.start(words);
        match self.proxy.wait_held(|| running.is_over()) {
            true => running,
            false => panic!("it is over before so much passed: {:#?}", running.finish()),
        }
    }

    /// Cut all connections after so many more of those bytes, and wait for that.
    #[track_caller]
    pub fn cut(&self, which: Which, bytes: u64, running: Running) -> Running {
        let cuts = self.proxy.cuts();
        self.proxy.cut_after(which, bytes);
        self.wait_cut(cuts + 1, running)
    }

    /// Wait until all connections were cut so often.
    #[track_caller]
    pub fn wait_cut(&self, cuts: u64, mut running: Running) -> Running {
        match self.proxy.wait_cuts(cuts, || running.is_over()) {
            true => running,
            false => panic!("it is over before so much passed: {:#?}", running.finish()),
        }
    }

    /// Run it with data streams in the clear, held after so many bytes; `act` then, and let it go on.
    #[track_caller]
    pub fn interrupted(&self, which: Which, bytes: u64, words: &[&str], act: impl FnOnce()) -> Done {
        let running = self.held(which, bytes, &[&CLEAR, words].concat());
        act();
        self.proxy.go_on();
        running.finish()
    }

    /// What is at the clients' site and what is served are the same, and no temporary is left at either.
    #[track_caller]
    pub fn same(&self, near: &str, far: &str, what: What) {
        assert_same(&self.near(near), &self.far(far), what);
        no_temporaries(&self.near(""));
        no_temporaries(&self.far(""));
    }

    /// A run with a receipt, and that receipt.
    #[track_caller]
    pub fn receipt(&self, words: &[&str]) -> serde_json::Value {
        self.runs(&[&["--receipt", "receipt.json"], words].concat());
        let receipt = std::fs::read_to_string(self.near("receipt.json")).unwrap();
        std::fs::remove_file(self.near("receipt.json")).unwrap();
        serde_json::from_str(&receipt).unwrap()
    }
}

fn serve(dir: &Path, options: &[OsString]) -> Serving {
    let mut command = linerate(["serve", "--listen", "127.0.0.1:0", "--ticket-file"]);
    command.arg(dir.join("ticket")).args(options).arg(dir.join("far"));
    Serving::by(at_home(&mut command, &dir.join("home")))
}

/// Local copies: `linerate copy` with these words in that folder.
pub fn copy_in(folder: &Path, words: &[&str]) -> Done {
    run_bounded(linerate(["copy", "--quiet"]).args(words).current_dir(folder))
}

/// A filesystem of its own in memory, unmounted with its drop.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Of that size, at that folder; `None`, and a line that says why, where that cannot be done.
    pub fn mount(at: &Path, size: &str) -> Option<SmallDisk> {
        std::fs::create_dir_all(at).unwrap();
        let options = format!("size={size},mode=700");
        let mut mount = Command::new("mount");
        let done = mount.args(["-t", "tmpfs", "-o", &options, "linerate-test"]).arg(at).output();
        let can = done.is_ok_and(|done| done.status.success());
        (!super::skip_unless(can, "no filesystem can be mounted: run as root")).then(|| SmallDisk(at.to_path_buf()))
    }

    /// Make it larger.
    pub fn grow(&self, size: &str) {
        let mut mount = Command::new("mount");
        run_bounded(mount.args(["-o", &format!("remount,size={size}")]).arg(&self.0)).expect(0);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Also where something still has a file of it open.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A filesystem in a file, unmounted with its drop.
pub struct Image(PathBuf);

impl Image {
    /// Make one of 400 MiB with that program and words, and mount it with these options. `None`, and a line that says
    /// why, where that cannot be done.
    pub fn mount(file: &Path, at: &Path, maker: &[&str], options: &str) -> Option<Image> {
        std::fs::create_dir_all(at).unwrap();
        std::fs::File::create(file).unwrap().set_len(400 << 20).unwrap();
        let does = |command: &mut Command| command.output().is_ok_and(|done| done.status.success());
        let can = does(Command::new(maker[0]).args(&maker[1..]).arg(file))
            && does(Command::new("mount").args(["-o", options]).arg(file).arg(at));
        let why = format!("no {}, no such filesystem in this kernel, or not root", maker.join(" "));
        (!super::skip_unless(can, &why)).then(|| Image(at.to_path_buf()))
    }

    /// Bytes that are free.
    pub fn free(&self) -> u64 {
        let _ = Command::new("sync").arg("-f").arg(&self.0).status();
        let about = nix::sys::statvfs::statvfs(&self.0).unwrap();
        about.blocks_free() as u64 * about.fragment_size() as u64
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // The image goes with the test's folder, and the loop device with the mount; also where something is still open.
        let _ = Command::new("umount").args(["-d", "-l"]).arg(&self.0).status();
    }
}

/// Have root be bound by modes as everybody else is; `false` where that cannot be done.
pub fn bound_by_modes(command: &mut Command) -> bool {
    use std::os::unix::process::CommandExt;
    // CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH.
    const OVERRIDES: [libc::c_ulong; 2] = [1, 2];
    if !super::is_root() {
        return true;
    }
    // SAFETY: prctl reads one number and changes nothing that could fail here.
    let can = OVERRIDES.iter().all(|&right| unsafe { libc::prctl(libc::PR_CAPBSET_READ, right, 0, 0, 0) } == 1);
    let drop_them = move || {
        for right in OVERRIDES {
            // SAFETY: as above; prctl(2) may be called between fork and exec.
            if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, right, 0, 0, 0) } != 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: what runs between fork and exec makes system calls only and allocates nothing.
    unsafe { command.pre_exec(drop_them) };
    can
}

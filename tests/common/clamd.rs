//! A clamd of a test's own, with a database that knows only the EICAR test file.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Running, folder, wait_until};

/// The longest stream that it takes, bytes.
pub const STREAM_MAX: usize = 1 << 20;

/// The file by which virus scanners are tested, put together here lest one finds it in this source.
pub fn eicar() -> Vec<u8> {
    [r"X5O!P%@AP[4\PZX54(P^)7CC)7}$", "EICAR-STANDARD", "-ANTIVIRUS-TEST-FILE!", "$H+H*"].concat().into_bytes()
}

/// The running program, ended with the test.
pub struct Clamd {
    dir: tempfile::TempDir,
    running: Option<Running>,
}

impl Clamd {
    /// Nothing, with a reason, where there is none.
    pub fn start() -> Option<Clamd> {
        let is_there = Command::new("clamd").arg("--version").stdout(Stdio::null()).status().is_ok();
        if !is_there {
            println!("skipped: there is no clamd: install clamav-daemon");
            return None;
        }
        let dir = folder();
        let (database, socket, config) =
            (dir.path().join("db"), dir.path().join("clamd.ctl"), dir.path().join("clamd.conf"));
        std::fs::create_dir(&database).unwrap();
        // clamd may give up the rights of root.
        for open in [dir.path(), &database] {
            std::fs::set_permissions(open, std::fs::Permissions::from_mode(0o777)).unwrap();
        }
        let hex: String = eicar().iter().map(|byte| format!("{byte:02x}")).collect();
        std::fs::write(database.join("test.ndb"), format!("Eicar-Of-This-Test:0:*:{hex}\n")).unwrap();
        let text = format!(
            "LocalSocket {}\nDatabaseDirectory {}\nForeground yes\nStreamMaxLength {STREAM_MAX}\n",
            socket.display(),
            database.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut running = Running::start(Command::new("clamd").arg("--config-file").arg(&config));
        wait_until("clamd answers", || is_answered(&socket) || running.is_over());
        if running.is_over() {
            println!("skipped: clamd does not run here: {:?}", running.finish());
            return None;
        }
        Some(Clamd { dir, running: Some(running) })
    }

    /// As `--scan` takes it.
    pub fn place(&self) -> String {
        format!("clamd:{}", self.dir.path().join("clamd.ctl").display())
    }

    /// Of the program that runs.
    pub fn pid(&self) -> u32 {
        self.running.as_ref().unwrap().pid()
    }

    pub fn stop(&mut self) {
        drop(self.running.take());
    }
}

fn is_answered(socket: &Path) -> bool {
    let Ok(mut stream) = UnixStream::connect(socket) else { return false };
    let mut answer = Vec::new();
    stream.write_all(b"zPING\0").is_ok() && stream.read_to_end(&mut answer).is_ok() && answer == b"PONG\0"
}

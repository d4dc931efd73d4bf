//! The bare loop's send methods: the system calls of those in `linerate::mover`, and nothing around them.

use std::fs::File;
use std::net::TcpStream;

mod mmap;
mod sendfile;
mod splice;
mod write;
mod zerocopy;

/// One method on one blocking socket.
pub trait Lane {
    /// Send up to `len` bytes of the file from `at`; says how many.
    fn send(&mut self, at: u64, len: usize) -> std::io::Result<usize>;
}

/// A method's name and how to make one.
struct Row {
    name: &'static str,
    make: for<'a> fn(&'a TcpStream, &'a File, usize) -> anyhow::Result<Box<dyn Lane + 'a>>,
}

const ROWS: [Row; 5] = [
    Row { name: "write", make: |sock, file, chunk| Ok(Box::new(write::Write::new(sock, file, chunk)?)) },
    Row { name: "mmap", make: |sock, file, _| Ok(Box::new(mmap::Mmap::new(sock, file)?)) },
    Row { name: "sendfile", make: |sock, file, _| Ok(Box::new(sendfile::Sendfile { sock, file })) },
    Row { name: "splice", make: |sock, file, _| Ok(Box::new(splice::Splice::new(sock, file)?)) },
    Row { name: "zerocopy", make: |sock, file, chunk| Ok(Box::new(zerocopy::Zerocopy::new(sock, file, chunk)?)) },
];

/// The method of that name.
pub fn make<'a>(name: &str, sock: &'a TcpStream, file: &'a File, chunk: usize) -> anyhow::Result<Box<dyn Lane + 'a>> {
    let row = ROWS.iter().find(|row| row.name == name);
    let row = row.ok_or_else(|| anyhow::anyhow!("the bare loop has no method {name}: write it"))?;
    (row.make)(sock, file, chunk)
}

/// The usual convention of system calls: a count, or -1 and errno; a signal is no reason to stop.
fn count(mut call: impl FnMut() -> isize) -> std::io::Result<usize> {
    loop {
        let got = call();
        if let Ok(n) = usize::try_from(got) {
            return Ok(n);
        }
        let error = std::io::Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// No data where the file should have some.
fn truncated() -> std::io::Error {
    std::io::Error::other("the file ended early")
}

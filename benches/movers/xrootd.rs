//! xrdcp to an xrootd server, without its checksums of pages (XRD_CPUSEPGWRTRD=0).

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::common::ports;
use crate::mover::{Job, Mover, Ready, text, words};
use crate::programs::{find, is_root, versions};
use crate::workload::Kind;

/// It refuses to run as root; this account may only do what everybody may, in a path that is open to everybody.
const ACCOUNT: &str = "daemon";

/// Both.
pub struct Xrootd;

impl Mover for Xrootd {
    fn label(&self) -> String {
        "xrdcp".to_owned()
    }

    fn version(&self) -> Result<String, String> {
        versions([("xrdcp", "--version"), ("xrootd", "-v")])
    }

    fn plays(&self, kind: Kind) -> bool {
        !matches!(kind, Kind::Tls | Kind::Again)
    }

    fn ready(&self, job: &Job) -> anyhow::Result<Ready> {
        let [port] = ports::free()?;
        let folder = text(job.folder);
        for open in [job.folder, job.destination] {
            fs::set_permissions(open, Permissions::from_mode(0o777))?;
        }
        let destination = text(job.destination);
        let file = text(&job.folder.join("xrootd.cfg"));
        let configuration = format!(
            "xrd.port {port}\nxrd.network nodnr\nall.role server\nall.export {destination}\n\
             all.adminpath {folder}\nall.pidpath {folder}\n"
        );
        fs::write(&file, configuration)?;
        let mut server = words([&find("xrootd"), "-c", &file, "-l", &text(&job.folder.join("log"))]);
        if is_root() {
            server.extend(words(["-R", ACCOUNT]));
        }
        let mut server = job.start(&server)?;
        ports::wait_for(port, &mut server)?;
        let (source, to) = (text(&job.source.path), format!("root://127.0.0.1:{port}/"));
        let client = if job.kind.is_big() {
            words(["xrdcp", "-s", &source, &format!("{to}{}", text(&job.target()))])
        } else {
            // Into a folder that is there, under its own name.
            words(["xrdcp", "-s", "-r", "--parallel", "4", &source, &format!("{to}{destination}/")])
        };
        Ok(Ready::with(server, job.durable(client)))
    }
}

//! globus-url-copy to a GridFTP server, as anonymous, without checksums: four streams for a big file; for a tree one
//! connection, the commands of the next file sent ahead.

use crate::common::ports;
use crate::mover::{Job, Mover, Ready, text, words};
use crate::programs::{find, is_root, user, versions};
use crate::workload::Kind;

/// Both.
pub struct Globus;

impl Mover for Globus {
    fn label(&self) -> String {
        "globus-url-copy".to_owned()
    }

    fn version(&self) -> Result<String, String> {
        versions([("globus-url-copy", "-version"), ("globus-gridftp-server", "--version")])
    }

    fn plays(&self, kind: Kind) -> bool {
        !matches!(kind, Kind::Tls | Kind::Again)
    }

    fn ready(&self, job: &Job) -> anyhow::Result<Ready> {
        let [port] = ports::free()?;
        let here = "127.0.0.1";
        let mut server = words([&find("globus-gridftp-server"), "-aa", "-p", &port.to_string()]);
        server.extend(words(["-control-interface", here, "-data-interface", here]));
        server.extend(words(["-l", &text(&job.folder.join("log")), "-log-level", "error"]));
        if is_root() {
            server.extend(words(["-anonymous-user", &user(), "-allow-root"]));
        }
        let mut server = job.start(&server)?;
        ports::wait_for(port, &mut server)?;
        let is_big = job.kind.is_big();
        let how: &[&str] = if is_big { &["-p", "4", "-bs", "4M"] } else { &["-r", "-cd", "-fast", "-pp"] };
        let mut client = words(["globus-url-copy", "-nodcau"]);
        client.extend(how.iter().map(|word| (*word).to_owned()));
        let slash = if is_big { "" } else { "/" };
        client.push(format!("file://{}{slash}", text(&job.source.path)));
        client.push(format!("ftp://{here}:{port}{}{slash}", text(&job.target())));
        Ok(Ready::with(server, job.durable(client)))
    }
}

//! Coming into somebody else's share by its link: whom to expect there, and the password if it wants one.

use std::io::IsTerminal;

use anyhow::Context;

use super::password;
use crate::cli::access::{AccessArgs, TICKET_VARIABLE};
use crate::cli::exit::Misuse;
use crate::cli::out;
use crate::proto::fingerprint::Fingerprint;
use crate::share::client::Client;
use crate::share::client::link::Link;
use crate::tls::client::Pin;
use crate::trust::peers::Peers;
use crate::trust::places::Places;

/// What is told of a share without encryption.
const IN_THE_CLEAR: &str = "linerate: WARNING: in the clear: whoever can read the network reads along";

/// Who is taken for the share where nothing says whom to expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Strangers {
    /// Whoever the person at the terminal says yes to.
    Asked,
    /// The same, and there is the option --insecure.
    AskedOrInsecure,
    /// Whoever answers.
    Taken,
}

/// Connect to the server that is meant, and come in. Nothing that lets in is sent before it is clear who answers.
pub(in crate::cli) fn open(link: &Link, access: &AccessArgs, strangers: Strangers) -> anyhow::Result<Client> {
    let expected = expected(link, access)?;
    if !link.is_https {
        if let Some((_, by)) = expected {
            let why = format!("{by}: a link with http:// is in the clear, where nobody can be known by a fingerprint");
            return Err(Misuse(why).into());
        }
        out::say(IN_THE_CLEAR);
    }
    let pin = expected.map_or(Pin::Anybody, |(fingerprint, _)| Pin::Exactly(fingerprint));
    let mut client = Client::open(link, pin).with_context(|| link.origin())?;
    if let (None, Some(found)) = (expected, client.fingerprint()) {
        if strangers != Strangers::Taken {
            confirm(link, found, strangers)?;
        }
        // From now on nobody else is taken for it.
        client = client.again().with_context(|| link.origin())?;
    }
    // With a password the link alone does not let in.
    let asked = client.get("/api/share").and_then(|reply| reply.json::<serde_json::Value>());
    match asked {
        Err(error) if error.status() == Some(401) => {
            client.log_in(&password::of_visitor(&link.authority())?).with_context(|| link.origin())?;
        }
        asked => drop(asked.with_context(|| link.origin())?),
    }
    Ok(client)
}

/// Whom to expect by the options, or by a ticket of the same machine, and what says so.
fn expected(link: &Link, access: &AccessArgs) -> anyhow::Result<Option<(Fingerprint, &'static str)>> {
    if let Some(fingerprint) = access.fingerprint {
        return Ok(Some((fingerprint, "--fingerprint")));
    }
    if let Some(ticket) = access.named()? {
        let by = if access.ticket_file.is_some() { "--ticket-file" } else { TICKET_VARIABLE };
        return Ok(Some((ticket.fingerprint, by)));
    }
    let Ok(places) = Places::from_env() else { return Ok(None) };
    // A machine's shares and its daemon are known by one identity.
    let paired = Peers::new(&places).find(&link.host, crate::cli::serve::PORT_DEFAULT).ok().flatten();
    Ok(paired.filter(|_| link.is_https).map(|ticket| (ticket.fingerprint, "the pairing")))
}

fn confirm(link: &Link, found: Fingerprint, strangers: Strangers) -> anyhow::Result<()> {
    let origin = link.origin();
    let question = format!("the share at {origin} has the fingerprint\n  {found}\nIs it the one that the share shows?");
    let is_somebody_there = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if is_somebody_there && out::ask(&question) {
        return Ok(());
    }
    let insecure = if strangers == Strangers::AskedOrInsecure { "; --insecure takes any" } else { "" };
    let why = format!(
        "{origin}: who answers there has the fingerprint {found}: if the share shows the same, say so by \
         --fingerprint{insecure}"
    );
    Err(Misuse(why).into())
}

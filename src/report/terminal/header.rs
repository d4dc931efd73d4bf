//! Who measured what against whom, in a few lines.

use super::super::format::{escape, ns, size};
use super::super::schema::{Document, Environment, Settings};
use super::{Style, bold, warning};
use crate::proto::facts::Nic;

/// CPUs named one by one; the others are counted.
const CPUS_NAMED_MAX: usize = 8;

/// At most eight lines.
pub(super) fn lines(doc: &Document, style: &Style) -> Vec<String> {
    let settings = &doc.settings;
    let mut lines = vec![title(settings, style)];
    if !doc.complete {
        lines.push(incomplete(settings, style));
    }
    lines.push(end("client", &doc.environment.client));
    lines.push(end("server", &doc.environment.server));
    let has_tls = doc.cells.iter().any(|cell| cell.tls) || doc.latency.iter().any(|row| row.tls);
    lines.push(data(settings, has_tls));
    if settings.through_ssh {
        lines.push(warning("way     through an ssh connection: slower than the network", style));
    }
    lines.extend(options(settings));
    lines.push(program(doc));
    lines
}

fn title(settings: &Settings, style: &Style) -> String {
    let peer = match settings.peer.as_str() {
        "" => "an unnamed peer".into(),
        peer => escape(peer),
    };
    let mut title = bold(&format!("linerate bench against {peer}"), style);
    if settings.loopback {
        title += " (loopback)";
    }
    if settings.rounds > 0 {
        let rounds = if settings.rounds == 1 { "round" } else { "rounds" };
        title += &format!(" · {} {rounds} × {}", settings.rounds, per_cell(settings));
    }
    title
}

fn per_cell(settings: &Settings) -> String {
    if settings.bytes_per_cell > 0 { size(settings.bytes_per_cell) } else { ns(settings.duration_ns) }
}

fn incomplete(settings: &Settings, style: &Style) -> String {
    let (measured, rounds) = (settings.rounds_measured, settings.rounds);
    let text = format!("!! INCOMPLETE: the run ended early, {measured} of {rounds} rounds were finished !!");
    warning(&text, style)
}

fn end(role: &str, environment: &Environment) -> String {
    let mut parts =
        vec![escape(&environment.kernel), format!("{} × {}", escape(&environment.cpu_model), environment.cores)];
    parts.extend(environment.virtualisation.as_deref().map(escape));
    parts.extend(environment.nic.as_ref().map(nic));
    format!("{role}  {}: {}", escape(&environment.host), parts.join(", "))
}

fn nic(nic: &Nic) -> String {
    let mut text = escape(&nic.name);
    if let Some(driver) = &nic.driver {
        text += &format!(" ({})", escape(driver));
    }
    if let Some(mbit) = nic.speed_mbit_per_s {
        text += &format!(" {} Gbit/s", mbit as f64 / 1000.0);
    }
    if let Some(mtu) = nic.mtu_bytes {
        text += &format!(" MTU {mtu}");
    }
    text
}

fn data(settings: &Settings, has_tls: bool) -> String {
    let mut parts = Vec::new();
    if !settings.congestion.is_empty() {
        let reason = settings.congestion_reason.as_deref();
        let reason = reason.map_or(String::new(), |reason| format!(" ({})", escape(reason)));
        parts.push(format!("{}{reason}", escape(&settings.congestion)));
    }
    if !settings.source.is_empty() {
        parts.push(format!("from {}", escape(&settings.source)));
    }
    if !settings.sink.is_empty() {
        parts.push(format!("to {}", escape(&settings.sink)));
    }
    if has_tls && !settings.cipher.is_empty() {
        parts.push(format!("TLS by {}", escape(&settings.cipher)));
    }
    if settings.workers > 0 {
        let plural = if settings.workers == 1 { "" } else { "s" };
        parts.push(format!("{} worker{plural} per end", settings.workers));
    }
    format!("data    {}", or_unknown(parts))
}

/// What the user asked for beyond the defaults.
fn options(settings: &Settings) -> Option<String> {
    let mut parts = Vec::new();
    for (role, cpus) in [("client", &settings.client_cpus), ("server", &settings.server_cpus)] {
        if !cpus.is_empty() {
            parts.push(format!("{role} pinned to CPU {}", list(cpus)));
        }
    }
    if settings.spin {
        parts.push("busy polling".into());
    }
    parts.extend(settings.socket_options.iter().take(CPUS_NAMED_MAX).map(|option| escape(option)));
    (!parts.is_empty()).then(|| format!("with    {}", parts.join(", ")))
}

fn list(cpus: &[u32]) -> String {
    let named: Vec<String> = cpus.iter().take(CPUS_NAMED_MAX).map(u32::to_string).collect();
    let more = cpus.len().saturating_sub(CPUS_NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    named.join(" ") + &more
}

fn program(doc: &Document) -> String {
    let commit = match doc.environment.client.git_commit.as_str() {
        "" => String::new(),
        commit => format!(" ({})", escape(commit)),
    };
    let mut line =
        format!("run     {}, seed {}, linerate {}{commit}", escape(&doc.started_at), doc.seed, escape(&doc.version));
    if doc.elapsed_s.is_finite() && doc.elapsed_s > 0.0 {
        line += &format!(", took {:.0} s", doc.elapsed_s);
    }
    line
}

fn or_unknown(parts: Vec<String>) -> String {
    if parts.is_empty() { "settings not recorded".into() } else { parts.join(", ") }
}

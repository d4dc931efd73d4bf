//! Exit codes, and which failure has which.

use super::copy::LocationError;
use super::reach::Unreachable;
use super::ssh::SshError;
use super::verify::ManifestError;
use crate::bench::plan::PlanError;
use crate::bench::run::RunError;
use crate::engine::dial::DialError;
use crate::link::LinkError;
use crate::proto::ticket::TicketError;
use crate::store::StoreError;
use crate::transfer::run::RunError as CopyRunError;
use crate::trust::TrustError;
use crate::units::UnitError;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All done.
    Ok = 0,
    /// Something failed that has no code of its own.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// Some of it was done.
    Partial = 3,
    /// Bytes are not what they should be, or not there.
    Unverified = 4,
    /// The peer will not.
    Refused = 5,
    /// There is no connection, or none any more.
    Unconnected = 6,
    /// SIGINT or SIGTERM.
    Interrupted = 130,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        (exit as u8).into()
    }
}

/// Show what clap has to say: help and version are no failure.
pub(super) fn of_usage(error: &clap::Error) -> Exit {
    // A closed standard output is nobody's loss here.
    let _ = error.print();
    if error.use_stderr() { Exit::Usage } else { Exit::Ok }
}

/// The code of an error, by the most specific cause that is known.
pub(super) fn of_error(error: &anyhow::Error) -> Exit {
    for cause in error.chain() {
        if let Some(link) = cause.downcast_ref::<LinkError>() {
            return of_link(link);
        }
        if let Some(RunError::Plan(_)) = cause.downcast_ref::<RunError>() {
            return Exit::Usage;
        }
        if let Some(RunError::Link(link)) = cause.downcast_ref::<RunError>() {
            return of_link(link);
        }
        if let Some(plan) = cause.downcast_ref::<PlanError>() {
            return if matches!(plan, PlanError::Source(_)) { Exit::Failed } else { Exit::Usage };
        }
        if let Some(ssh) = cause.downcast_ref::<SshError>() {
            return of_ssh(ssh);
        }
        // A ticket that cannot be read or made is one that was given so to this run.
        let is_ticket = cause.is::<TicketError>() || matches!(cause.downcast_ref(), Some(TrustError::Ticket { .. }));
        if cause.is::<UnitError>() || cause.is::<ManifestError>() || is_ticket {
            return Exit::Usage;
        }
        if let Some(run) = cause.downcast_ref::<CopyRunError>() {
            return of_copy(run);
        }
        if cause.is::<Misuse>() || cause.is::<LocationError>() {
            return Exit::Usage;
        }
        #[cfg(feature = "web")]
        if let Some(client) = cause.downcast_ref::<crate::share::client::ClientError>() {
            return of_client(client);
        }
        #[cfg(feature = "web")]
        if cause.is::<Interrupted>() {
            return Exit::Interrupted;
        }
        if cause.is::<DialError>() || cause.is::<Unreachable>() {
            return Exit::Unconnected;
        }
    }
    Exit::Failed
}

/// What was asked for makes no sense, and what to write instead.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Misuse(pub(super) String);

/// Ctrl-C at a question.
#[cfg(feature = "web")]
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(super) struct Interrupted;

/// The code of a share's failure.
#[cfg(feature = "web")]
pub(super) fn of_client(error: &crate::share::client::ClientError) -> Exit {
    use crate::share::client::ClientError;
    match error {
        ClientError::Unreachable { .. } | ClientError::Lost(_) | ClientError::Silent(_) => Exit::Unconnected,
        ClientError::Refused { .. } | ClientError::Fingerprint { .. } => Exit::Refused,
        ClientError::Unproven => Exit::Unverified,
        _ => Exit::Failed,
    }
}

/// The code of a copy's failure.
pub(super) fn of_copy(error: &CopyRunError) -> Exit {
    match error {
        CopyRunError::Link(link) => of_link(link),
        CopyRunError::Stream { .. } => Exit::Unconnected,
        CopyRunError::Store(StoreError::Filter { .. }) => Exit::Usage,
        CopyRunError::Peer { .. } | CopyRunError::Store(_) | CopyRunError::Here(_) => Exit::Failed,
    }
}

/// The code of a link's failure.
pub(super) fn of_link(error: &LinkError) -> Exit {
    match error {
        LinkError::Dial(DialError::Option(_)) => Exit::Usage,
        LinkError::Dial(_) | LinkError::Lost { .. } => Exit::Unconnected,
        LinkError::Refused { .. } | LinkError::WantsTicket { .. } | LinkError::TurnedAway { .. } => Exit::Refused,
        LinkError::Interrupted => Exit::Interrupted,
        LinkError::Tls(_) | LinkError::System { .. } | LinkError::Missing { .. } => Exit::Failed,
    }
}

/// The code of a failure to start the far end.
pub(super) fn of_ssh(error: &SshError) -> Exit {
    match error {
        SshError::Command { .. } => Exit::Usage,
        SshError::Interrupted => Exit::Interrupted,
        SshError::Complained { .. }
        | SshError::Unsuitable { .. }
        | SshError::NotInstalled { .. }
        | SshError::System { .. } => Exit::Failed,
        _ => Exit::Unconnected,
    }
}

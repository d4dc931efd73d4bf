//! What the command line says of uploads: how much, and who looks at them first.

use crate::cli::exit::Misuse;
use crate::share::intake::Settings;
use crate::share::scan::Scanner;
use crate::share::state::Share;
use crate::trust::places::Places;
use crate::units::Bytes;

/// How uploads are taken, as it is typed.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Uploads")]
pub(in crate::cli) struct UploadArgs {
    /// Most that all uploads together may have while the share runs [default: as much as the disk has room for].
    #[arg(long, value_name = "SIZE")]
    pub(super) max_upload: Option<Bytes>,
    /// Have clamd look at every upload before anybody sees it: clamd:/run/clamav/clamd.ctl or clamd:host:port. What it
    /// finds something in, or cannot look at, is kept away. Its StreamMaxLength must not be above its MaxFileSize.
    #[arg(long, value_name = "SCANNER")]
    pub(super) scan: Option<Scanner>,
    /// Show uploads that could not be scanned, too, as `not scanned`.
    #[arg(long, requires = "scan")]
    pub(super) scan_fail_open: bool,
}

/// How uploads are taken. The folder for what a scan finds is made only where there is a scan.
pub(super) fn settings(args: &UploadArgs) -> anyhow::Result<Settings> {
    let scanner = args.scan.clone();
    // Without a place of the user's own it is kept hidden where it came.
    let quarantine = match (&scanner, Places::from_env()) {
        (Some(_), Ok(places)) => Some(places.quarantine()?),
        _ => None,
    };
    let bytes_max = args.max_upload.map(|max| max.0);
    Ok(Settings { bytes_max, scanner, scan_fails_open: args.scan_fail_open, quarantine })
}

/// A share whose scanner is not there would take nothing: better said at the start.
pub(super) async fn check_scanner(share: &Share, args: &UploadArgs) -> anyhow::Result<()> {
    match (share.intake.ping().await, &args.scan) {
        (Err(error), Some(scanner)) if !args.scan_fail_open => {
            let why = format!("--scan {scanner}: {error}: start it, name another, or leave the option away");
            Err(Misuse(why).into())
        }
        _ => Ok(()),
    }
}

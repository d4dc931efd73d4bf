//! The engine against a bare blocking loop of the same system calls: what the event loop, the frames and the
//! counters cost. Every send method × size, one stream, received by `read`, from a file in the page cache.
//!
//! ```text
//! cargo bench --bench engine                              every method and size
//! cargo bench --bench engine -- --methods sendfile --sizes 64KiB,1MiB --pairs 9
//! ```
//!
//! Both sides are two processes on the same two CPUs with the same congestion control. Engine and bare loop are
//! measured in turns; the figure is the median of the ratios of pairs. Writes `results/engine-<UTC time>.json`,
//! schema `linerate.engine-bench/1`.
//!
//! | file | what it holds |
//! |---|---|
//! | `options` | the command line |
//! | `engine_side` | one run of the program |
//! | `bare_side` | one run of the bare loop: starts both its ends, which are this program again |
//! | `bare_send`, `bare_receive` | the bare loop's two ends |
//! | `lanes` | the bare loop's send methods |
//! | `cells` | the matrix and its pairs |
//! | `output` | the table and the result file |

mod bare_receive;
mod bare_send;
mod bare_side;
mod cells;
#[path = "../common/mod.rs"]
mod common;
mod engine_side;
mod lanes;
mod options;
mod output;

use common::{corpus::Corpus, interrupt, record::Record};
use options::Options;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some(bare_receive::ROLE) => return bare_receive::run(arguments),
        Some(bare_send::ROLE) => return bare_send::run(arguments),
        _ => {}
    }
    let options = Options::parse()?;
    interrupt::watch()?;
    // A test run proves that the bench works; its figures mean nothing and are not kept.
    let record = if options.is_test { None } else { Some(Record::prepare("engine")?) };
    let corpus = Corpus::new(options.file_bytes)?;
    let cells = cells::measure(&options, &corpus)?;
    print!("{}", output::table(&cells, &options));
    if let Some(record) = record {
        let path = record.write(&output::document(&cells, &options, &corpus))?;
        println!("saved as {}", path.display());
    }
    // Figures of cells that failed are missing from the table: the exit code must say so too.
    anyhow::ensure!(cells.iter().all(|cell| cell.fault.is_none()), "not every cell could be measured");
    Ok(())
}

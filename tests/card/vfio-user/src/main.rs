//! Serves the card at a socket until the client goes.

use std::path::PathBuf;

use anyhow::{Context, Result};
use card::Planned;
use card_vfio_user::Server;
use clap::Parser;

/// The card as a vfio-user device, for QEMU 10.1 or newer.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Where to make the socket.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// Mebibytes of the card's memory, up to 4096.
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    memory: u64,
    /// Serve one client after the other, with the same card, instead of a single one.
    #[arg(long)]
    forever: bool,
    /// What goes wrong with the card, as NAME[=CHANNEL[:NUMBER]][@SKIP]: `hang=to-card`, `tag=from-card:1@3`. Each happens
    /// once, after so many opportunities.
    #[arg(long = "fault", value_name = "FAULT", value_delimiter = ',')]
    faults: Vec<Planned>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let memory = options.memory.saturating_mul(1 << 20);
    let server = Server::new(&options.socket, memory, Server::TIMING)
        .with_context(|| format!("cannot serve at {}", options.socket.display()))?;
    let faults = server.faults();
    for planned in &options.faults {
        faults.arm_after(planned.fault, planned.skip);
    }
    loop {
        let served = server.serve();
        if !options.forever {
            return Ok(served?);
        }
        if let Err(error) = served {
            eprintln!("client: {error}");
        }
    }
}

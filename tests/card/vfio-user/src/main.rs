//! Serves the card at a socket until the client goes.

use std::path::PathBuf;

use anyhow::{Context, Result};
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
}

fn main() -> Result<()> {
    let options = Options::parse();
    let memory = options.memory.saturating_mul(1 << 20);
    let server = Server::new(&options.socket, memory, Server::TIMING)
        .with_context(|| format!("cannot serve at {}", options.socket.display()))?;
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

//! What a device writes when it should not.

use super::plan::Fault;
use super::state::State;
use crate::engine::Transfer;
use crate::{Board, BoardEvent};

/// What a device writes after a transfer has ended.
const LATE: u8 = 0xee;

/// The most it writes.
const LATE_LIMIT: u64 = 64 << 10;

impl State {
    /// Writes where a transfer was, as far as the function could.
    pub(super) fn late_dma(&mut self, board: &dyn Board, fault: Fault, transfer: Transfer) {
        let address = transfer.address;
        let length = transfer.count.min(LATE_LIMIT) as usize;
        let outcome = if self.watch.is_master() {
            self.device_write(board, address, &vec![LATE; length])
        } else {
            "refused, bus mastering is off"
        };
        self.fire(
            fault,
            format!("{length:#x} bytes at {address:#x} after the transfer: {outcome}"),
        );
    }

    /// Writes memory as the function itself would; returns what came of it.
    fn device_write(&mut self, board: &dyn Board, address: u64, bytes: &[u8]) -> &'static str {
        let function = self.watch.function();
        let memory = board.memory();
        let Some(iommu) = board.iommu() else {
            return match memory.write(address, bytes) {
                Ok(()) => "written",
                Err(_) => "nothing is there",
            };
        };
        match iommu.translate_to_ram(memory, function, address, bytes.len(), true) {
            Ok(segments) => {
                let mut rest = bytes;
                for segment in segments {
                    let (part, after) = rest.split_at(segment.length);
                    memory
                        .write(segment.physical, part)
                        .expect("translated to RAM");
                    rest = after;
                }
                "written"
            }
            Err(fault) => {
                self.news.push(BoardEvent::DmaFault {
                    function,
                    address: fault.address,
                    write: true,
                });
                "not mapped"
            }
        }
    }
}

//! Which functions are there.

use super::{Function, FunctionAddress, offset};
use crate::{Board, BoardError};

/// A function's header type without the bit for several functions.
const HEADER_TYPE_BRIDGE: u8 = 1;
const SEVERAL_FUNCTIONS: u8 = 0x80;

/// All functions of bus 0, and of the buses behind bridges that have been given a number, in ascending order.
pub fn enumerate(board: &dyn Board) -> Result<Vec<FunctionAddress>, BoardError> {
    let mut found = Vec::new();
    let mut buses = vec![0u8];
    let mut next = 0;
    while let Some(&bus) = buses.get(next) {
        next += 1;
        for device in 0..32 {
            for number in 0..8 {
                let address = FunctionAddress::new(bus, device, number);
                let function = Function::new(board, address);
                if !function.is_present()? {
                    if number == 0 {
                        break;
                    }
                    continue;
                }
                found.push(address);
                let header = function.read8(offset::HEADER_TYPE)?;
                if header & !SEVERAL_FUNCTIONS == HEADER_TYPE_BRIDGE {
                    let secondary = function.read8(offset::SECONDARY_BUS)?;
                    if !buses.contains(&secondary) {
                        buses.push(secondary);
                    }
                }
                if number == 0 && header & SEVERAL_FUNCTIONS == 0 {
                    break;
                }
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

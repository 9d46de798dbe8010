//! The translation between a device's logical addresses and physical memory.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use thiserror::Error;

use crate::{FunctionAddress, PhysicalMemory};

/// What a device may do with a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The device reads memory.
    Read,
    /// The device writes memory.
    Write,
    /// Both, as for a common buffer.
    ReadWrite,
}

impl Access {
    /// Whether a read (`write` false) or a write is allowed.
    pub fn allows(self, write: bool) -> bool {
        match self {
            Self::Read => !write,
            Self::Write => write,
            Self::ReadWrite => true,
        }
    }
}

/// Why a mapping cannot be made or taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum IommuError {
    /// The range is empty or wraps around.
    #[error("{length:#x} bytes at logical address {logical:#x} are no range")]
    BadRange {
        /// First logical address.
        logical: u64,
        /// Length in bytes.
        length: u64,
    },
    /// Part of the range is already mapped.
    #[error("logical address {logical:#x} of {function} is already mapped")]
    Overlap {
        /// The requester.
        function: FunctionAddress,
        /// First logical address of the mapping in the way.
        logical: u64,
    },
    /// There is no mapping with exactly this start and length.
    #[error("{function} has no mapping of {length:#x} bytes at logical address {logical:#x}")]
    NotMapped {
        /// The requester.
        function: FunctionAddress,
        /// First logical address.
        logical: u64,
        /// Length in bytes.
        length: u64,
    },
}

/// A logical range as physical memory, from [`Iommu::translate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First physical address.
    pub physical: u64,
    /// Length in bytes.
    pub length: usize,
}

/// The first logical address of an access that no live mapping allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The logical address.
    pub address: u64,
}

/// Live mappings of each requester.
///
/// Mappings have byte granularity, finer than any hardware: a device that runs one byte over a buffer faults.
#[derive(Debug, Default)]
pub struct Iommu {
    domains: Mutex<HashMap<FunctionAddress, BTreeMap<u64, Mapping>>>,
}

#[derive(Clone, Copy, Debug)]
struct Mapping {
    physical: u64,
    length: u64,
    access: Access,
}

impl Iommu {
    /// An IOMMU that maps nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `function` reach `length` bytes at `physical` through `logical`.
    pub fn map(
        &self,
        function: FunctionAddress,
        logical: u64,
        physical: u64,
        length: u64,
        access: Access,
    ) -> Result<(), IommuError> {
        let end = logical
            .checked_add(length)
            .filter(|_| length > 0 && physical.checked_add(length).is_some())
            .ok_or(IommuError::BadRange { logical, length })?;
        let mut domains = self.lock();
        let domain = domains.entry(function).or_default();
        if let Some((&start, _)) = domain
            .range(..end)
            .next_back()
            .filter(|(start, m)| *start + m.length > logical)
        {
            return Err(IommuError::Overlap {
                function,
                logical: start,
            });
        }
        domain.insert(
            logical,
            Mapping {
                physical,
                length,
                access,
            },
        );
        Ok(())
    }

    /// Takes a mapping away, which must have been made with this start and length.
    pub fn unmap(
        &self,
        function: FunctionAddress,
        logical: u64,
        length: u64,
    ) -> Result<(), IommuError> {
        let mut domains = self.lock();
        let domain = domains.entry(function).or_default();
        if domain.get(&logical).is_none_or(|m| m.length != length) {
            return Err(IommuError::NotMapped {
                function,
                logical,
                length,
            });
        }
        domain.remove(&logical);
        Ok(())
    }

    /// The physical memory behind a logical range, or the first address that may not be accessed.
    pub fn translate(
        &self,
        function: FunctionAddress,
        logical: u64,
        length: usize,
        write: bool,
    ) -> Result<Vec<Segment>, Fault> {
        let domains = self.lock();
        let mut segments = Vec::new();
        let mut address = logical;
        let mut left = length as u64;
        while left > 0 {
            let (start, mapping) = domains
                .get(&function)
                .and_then(|domain| domain.range(..=address).next_back())
                .filter(|(start, m)| address - **start < m.length && m.access.allows(write))
                .ok_or(Fault { address })?;
            let skip = address - start;
            let part = left.min(mapping.length - skip);
            segments.push(Segment {
                physical: mapping.physical + skip,
                length: part as usize,
            });
            left -= part;
            address = address.wrapping_add(part);
        }
        Ok(segments)
    }

    /// As [`Iommu::translate`], and all of it must be guest RAM: a mapping of what is not leads nowhere either.
    pub fn translate_to_ram(
        &self,
        memory: &PhysicalMemory,
        function: FunctionAddress,
        logical: u64,
        length: usize,
        write: bool,
    ) -> Result<Vec<Segment>, Fault> {
        let segments = self.translate(function, logical, length, write)?;
        let ram = segments
            .iter()
            .all(|segment| memory.window(segment.physical, segment.length).is_ok());
        if ram {
            Ok(segments)
        } else {
            Err(Fault { address: logical })
        }
    }

    /// How many mappings of `function` are live: none must be left when its driver is gone.
    pub fn live(&self, function: FunctionAddress) -> usize {
        self.lock().get(&function).map_or(0, BTreeMap::len)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<FunctionAddress, BTreeMap<u64, Mapping>>> {
        self.domains.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDU: FunctionAddress = FunctionAddress::new(0, 4, 0);

    #[test]
    fn an_access_may_span_mappings() {
        let iommu = Iommu::new();
        iommu
            .map(EDU, 0x1000, 0x1_0000_0000, 0x100, Access::Read)
            .unwrap();
        iommu
            .map(EDU, 0x1100, 0x9000, 0x100, Access::ReadWrite)
            .unwrap();
        assert_eq!(
            iommu.translate(EDU, 0x10f0, 0x20, false).unwrap(),
            [
                Segment {
                    physical: 0x1_0000_00f0,
                    length: 0x10
                },
                Segment {
                    physical: 0x9000,
                    length: 0x10
                }
            ]
        );
        assert_eq!(
            iommu.translate(EDU, 0x10f0, 0x20, true),
            Err(Fault { address: 0x10f0 })
        );
        assert_eq!(
            iommu.translate(EDU, 0x11f0, 0x11, false),
            Err(Fault { address: 0x1200 })
        );
        assert_eq!(
            iommu.translate(FunctionAddress::new(0, 5, 0), 0x1000, 1, false),
            Err(Fault { address: 0x1000 })
        );
    }

    #[test]
    fn mappings_do_not_overlap_and_go_as_they_came() {
        let iommu = Iommu::new();
        iommu
            .map(EDU, 0x1000, 0x5000, 0x1000, Access::Write)
            .unwrap();
        let overlap = IommuError::Overlap {
            function: EDU,
            logical: 0x1000,
        };
        assert_eq!(iommu.map(EDU, 0x1fff, 0, 1, Access::Read), Err(overlap));
        assert_eq!(iommu.map(EDU, 0xfff, 0, 2, Access::Read), Err(overlap));
        assert!(matches!(
            iommu.map(EDU, u64::MAX, 0, 2, Access::Read),
            Err(IommuError::BadRange { .. })
        ));
        assert!(matches!(
            iommu.unmap(EDU, 0x1000, 0x800),
            Err(IommuError::NotMapped { .. })
        ));
        iommu.unmap(EDU, 0x1000, 0x1000).unwrap();
        assert_eq!(iommu.live(EDU), 0);
        assert!(matches!(
            iommu.unmap(EDU, 0x1000, 0x1000),
            Err(IommuError::NotMapped { .. })
        ));
    }
}

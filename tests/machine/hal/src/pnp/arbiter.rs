//! Who gets which physical addresses and interrupts.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::interrupt::vector::Vectors;
use crate::resources::{Alternatives, Requirement, Resource};

/// Gives away the addresses that no board decodes for itself.
#[derive(Debug)]
pub struct Arbiter {
    window: Range<u64>,
    /// Ranges in use: end and owner by start.
    used: BTreeMap<u64, (u64, u64)>,
    /// Where the search begins: what was freed last is reused last.
    next: u64,
    /// Owners of the channels of the system DMA controller.
    channels: BTreeMap<u32, u64>,
}

impl Arbiter {
    /// An arbiter of these addresses.
    pub fn new(window: Range<u64>) -> Self {
        Self {
            next: window.start,
            window,
            used: BTreeMap::new(),
            channels: BTreeMap::new(),
        }
    }

    /// Gives `device` what it requires, of each requirement the first alternative there is; `None`, and nothing is
    /// taken, if one cannot be met.
    pub fn assign(
        &mut self,
        device: u64,
        requirements: &[Alternatives],
        vectors: &mut Vectors,
    ) -> Option<Vec<Resource>> {
        let mut resources = Vec::new();
        for alternatives in requirements {
            let resource = alternatives
                .iter()
                .find_map(|requirement| match *requirement {
                    Requirement::Memory {
                        length,
                        prefetchable,
                        minimum,
                        maximum,
                    } => {
                        let start = self.take(device, length.into(), minimum, maximum)?;
                        Some(Resource::Memory {
                            start,
                            length,
                            prefetchable,
                        })
                    }
                    Requirement::Line(line) => vectors
                        .assign_line(device, line)
                        .map(|vector| Resource::Interrupt { vector, count: 1 }),
                    Requirement::Messages(count) => {
                        let vector = *vectors.assign_messages(device, count)?.first()?;
                        Some(Resource::Interrupt { vector, count })
                    }
                    Requirement::Dma(connection) => {
                        let owner = self.channels.entry(connection.channel).or_insert(device);
                        (*owner == device).then_some(Resource::Dma(connection))
                    }
                });
            match resource {
                Some(resource) => resources.push(resource),
                None => {
                    self.release(device, vectors);
                    return None;
                }
            }
        }
        Some(resources)
    }

    /// Takes everything back from `device`.
    pub fn release(&mut self, device: u64, vectors: &mut Vectors) {
        self.used.retain(|_, (_, owner)| *owner != device);
        self.channels.retain(|_, owner| *owner != device);
        vectors.revoke(device);
    }

    fn take(&mut self, device: u64, length: u64, minimum: u64, maximum: u64) -> Option<u64> {
        let low = self.window.start.max(minimum);
        let high = self.window.end.min(maximum.saturating_add(1));
        let start = self
            .find(length, self.next.max(low)..high)
            .or_else(|| self.find(length, low..high))?;
        self.used.insert(start, (start + length, device));
        self.next = start + length;
        Some(start)
    }

    /// The first free range of `length` bytes, aligned to its length.
    fn find(&self, length: u64, within: Range<u64>) -> Option<u64> {
        let mut start = within.start.checked_next_multiple_of(length)?;
        while start.checked_add(length)? <= within.end {
            match self.used.range(..start + length).next_back() {
                Some((_, &(end, _))) if end > start => {
                    start = end.checked_next_multiple_of(length)?
                }
                _ => return Some(start),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use machine_bus::platform::DmaConnection;

    use super::*;

    fn memory(length: u32) -> Alternatives {
        vec![Requirement::Memory {
            length,
            prefetchable: false,
            minimum: 0,
            maximum: u32::MAX.into(),
        }]
    }

    fn start(resource: &Resource) -> u64 {
        match resource {
            Resource::Memory { start, .. } => *start,
            other => panic!("{other:?} is not memory"),
        }
    }

    #[test]
    fn addresses_are_aligned_and_reused_last() {
        let (mut arbiter, mut vectors) = (Arbiter::new(0x1800..0x6000), Vectors::default());
        let first = arbiter.assign(1, &[memory(0x1000)], &mut vectors).unwrap();
        assert_eq!(start(&first[0]), 0x2000);
        arbiter.release(1, &mut vectors);
        assert_eq!(
            start(&arbiter.assign(1, &[memory(0x1000)], &mut vectors).unwrap()[0]),
            0x3000
        );
        assert_eq!(
            start(&arbiter.assign(2, &[memory(0x2000)], &mut vectors).unwrap()[0]),
            0x4000
        );
        assert_eq!(
            start(&arbiter.assign(3, &[memory(0x1000)], &mut vectors).unwrap()[0]),
            0x2000
        );
        assert_eq!(arbiter.assign(4, &[memory(0x1000)], &mut vectors), None);
    }

    #[test]
    fn all_or_nothing() {
        let (mut arbiter, mut vectors) = (Arbiter::new(0x1000..0x2000), Vectors::default());
        let needs = [vec![Requirement::Line(5)], memory(0x1000), memory(0x1000)];
        assert_eq!(arbiter.assign(1, &needs, &mut vectors), None);
        assert_eq!(vectors.of_line(5), None);
        assert!(arbiter.assign(2, &[memory(0x1000)], &mut vectors).is_some());
    }

    #[test]
    fn a_channel_has_one_owner() {
        let (mut arbiter, mut vectors) = (Arbiter::new(0..0), Vectors::default());
        let connection = DmaConnection {
            channel: 3,
            request_line: 7,
            width: 4,
        };
        let needs = [vec![Requirement::Dma(connection)]];
        assert_eq!(
            arbiter.assign(1, &needs, &mut vectors),
            Some(vec![Resource::Dma(connection)])
        );
        assert_eq!(arbiter.assign(2, &needs, &mut vectors), None);
        arbiter.release(1, &mut vectors);
        assert!(arbiter.assign(2, &needs, &mut vectors).is_some());
    }

    #[test]
    fn the_first_alternative_is_preferred() {
        let (mut arbiter, mut vectors) = (Arbiter::new(0..0), Vectors::default());
        let needs = [vec![Requirement::Messages(1), Requirement::Line(5)]];
        let resources = arbiter.assign(1, &needs, &mut vectors).unwrap();
        assert!(matches!(resources[0], Resource::Interrupt { vector, .. } if !vector.is_level()));
        let needs = [vec![Requirement::Messages(40), Requirement::Line(5)]];
        let resources = arbiter.assign(2, &needs, &mut vectors).unwrap();
        assert!(matches!(resources[0], Resource::Interrupt { vector, .. } if vector.is_level()));
    }
}

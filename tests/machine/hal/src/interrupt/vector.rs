//! Interrupt vectors: which source each one stands for, and who may connect to it.

use std::collections::BTreeMap;

/// What raises an interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A line of the board: level-triggered, shared.
    Line(u32),
    /// A message with this number among its device's messages: edge-triggered, exclusive.
    Message(u16),
}

/// A vector, as resource descriptors name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vector {
    /// Its number. The upper half is the IRQL it is delivered at.
    pub number: u8,
    /// What raises it.
    pub source: Source,
}

impl Vector {
    /// IRQL at which it is delivered.
    pub fn irql(self) -> u8 {
        self.number >> 4
    }

    /// Level-triggered.
    pub fn is_level(self) -> bool {
        matches!(self.source, Source::Line(_))
    }
}

/// The IRQLs of line interrupts and of messages.
const LINE_IRQL: u8 = 6;
const MESSAGE_IRQL: u8 = 9;

/// Vectors for each of the two.
const VECTORS: u8 = 0x20;

/// The vectors of the machine and the devices (by physical device object) they are assigned to.
#[derive(Debug, Default)]
pub struct Vectors {
    assigned: BTreeMap<u8, (Source, Vec<u64>)>,
}

impl Vectors {
    /// Assigns the vector of a line to `device`; devices on one line share it. `None` if there are no more vectors.
    pub fn assign_line(&mut self, device: u64, line: u32) -> Option<Vector> {
        let number = match self.of_line(line) {
            Some(vector) => vector.number,
            None => self.unused(LINE_IRQL)?,
        };
        Some(self.insert(number, Source::Line(line), device))
    }

    /// Assigns vectors to `count` more messages of `device`, all or none: one after the other, and the first at a multiple
    /// of the next power of two, since a function with MSI changes the last bits only.
    pub fn assign_messages(&mut self, device: u64, count: u16) -> Option<Vec<Vector>> {
        let first_message = self.assigned_to(device).count() as u16;
        let first = MESSAGE_IRQL << 4;
        let alignment = usize::from(count.checked_next_power_of_two()?);
        let free = |start: &u8| {
            let range = u16::from(*start)..u16::from(*start) + count;
            range.end <= u16::from(first + VECTORS)
                && range
                    .into_iter()
                    .all(|number| !self.assigned.contains_key(&(number as u8)))
        };
        let start = (first..first + VECTORS).step_by(alignment).find(free)?;
        let vector = |message: u16| {
            let source = Source::Message(first_message + message);
            self.insert(start + message as u8, source, device)
        };
        Some((0..count).map(vector).collect())
    }

    /// Takes all vectors from `device`.
    pub fn revoke(&mut self, device: u64) {
        self.assigned.retain(|_, (_, devices)| {
            devices.retain(|&other| other != device);
            !devices.is_empty()
        });
    }

    /// The vector with this number, if it is assigned to `device`.
    pub fn of(&self, device: u64, number: u32) -> Option<Vector> {
        self.assigned_to(device)
            .find(|vector| u32::from(vector.number) == number)
    }

    /// All vectors of `device`, in the order of its messages.
    pub fn assigned_to(&self, device: u64) -> impl Iterator<Item = Vector> {
        self.assigned
            .iter()
            .filter(move |(_, (_, devices))| devices.contains(&device))
            .map(|(&number, &(source, _))| Vector { number, source })
    }

    /// The vector of a line, if it has one.
    pub fn of_line(&self, line: u32) -> Option<Vector> {
        let source = Source::Line(line);
        let (&number, _) = self
            .assigned
            .iter()
            .find(|(_, (existing, _))| *existing == source)?;
        Some(Vector { number, source })
    }

    fn unused(&self, irql: u8) -> Option<u8> {
        let first = irql << 4;
        (first..first + VECTORS).find(|number| !self.assigned.contains_key(number))
    }

    fn insert(&mut self, number: u8, source: Source, device: u64) -> Vector {
        self.assigned
            .entry(number)
            .or_insert((source, Vec::new()))
            .1
            .push(device);
        Vector { number, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shared_and_messages_are_not() {
        let mut vectors = Vectors::default();
        let line = vectors.assign_line(1, 20).unwrap();
        assert_eq!(vectors.assign_line(2, 20), Some(line));
        assert_ne!(vectors.assign_line(1, 21).unwrap().number, line.number);
        let messages = vectors.assign_messages(3, 4).unwrap();
        let sources: Vec<_> = messages.iter().map(|message| message.source).collect();
        assert_eq!(sources, [0, 1, 2, 3].map(Source::Message));
        assert!(messages[0].irql() > line.irql());
        assert_eq!(vectors.of(3, messages[2].number.into()), Some(messages[2]));
        assert_eq!(vectors.of(1, messages[2].number.into()), None);
        vectors.revoke(1);
        assert_eq!(vectors.of_line(20), Some(line));
        assert_eq!(vectors.of_line(21), None);
    }

    #[test]
    fn messages_of_one_request_are_aligned_and_in_order() {
        let mut vectors = Vectors::default();
        vectors.assign_messages(1, 1).unwrap();
        let four = vectors.assign_messages(2, 4).unwrap();
        assert_eq!(four[0].number % 4, 0);
        let numbers: Vec<_> = four
            .iter()
            .map(|vector| vector.number - four[0].number)
            .collect();
        assert_eq!(numbers, [0, 1, 2, 3]);
    }

    #[test]
    fn messages_of_several_requests_are_numbered_through() {
        let mut vectors = Vectors::default();
        for _ in 0..3 {
            vectors.assign_messages(1, 1).unwrap();
        }
        let sources: Vec<_> = vectors.assigned_to(1).map(|vector| vector.source).collect();
        assert_eq!(sources, [0, 1, 2].map(Source::Message));
    }

    #[test]
    fn all_messages_or_none() {
        let mut vectors = Vectors::default();
        assert!(vectors.assign_messages(1, 33).is_none());
        assert_eq!(vectors.assigned_to(1).count(), 0);
    }
}

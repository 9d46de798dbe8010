//! Sizes of requests: numbers and ranges, of which each request takes one at random.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use fastrand::Rng;

/// Sizes of requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes(Vec<RangeInclusive<usize>>);

impl Sizes {
    /// A size for the next request: one of the items, then one of its numbers; not above `largest`.
    pub fn pick(&self, rng: &mut Rng, largest: usize) -> usize {
        let item = &self.0[rng.usize(..self.0.len())];
        let (least, most) = ((*item.start()).min(largest), (*item.end()).min(largest));
        rng.usize(least..=most)
    }
}

impl Default for Sizes {
    /// Small, around what hardware and pages like, and anything.
    fn default() -> Self {
        Self(vec![1..=16, 63..=65, 511..=513, 1..=4096, 1..=65_536])
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| match text.parse() {
            Ok(0) => Err("a request has at least one byte".to_owned()),
            Ok(number) => Ok(number),
            Err(_) => Err(format!("`{text}` is no number of bytes")),
        };
        text.split(',')
            .map(|item| {
                let (least, most) = item.split_once('-').unwrap_or((item, item));
                let range = number(least)?..=number(most)?;
                if range.is_empty() {
                    return Err(format!("`{item}` is an empty range"));
                }
                Ok(range)
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, item) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            match (item.start(), item.end()) {
                (least, most) if least == most => write!(f, "{separator}{least}")?,
                (least, most) => write!(f, "{separator}{least}-{most}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for text in ["1", "1-64,512,1024-4095"] {
            assert_eq!(text.parse::<Sizes>().expect(text).to_string(), text);
        }
        for text in ["", "0", "5-4", "1-", "x", "1,,2"] {
            assert!(text.parse::<Sizes>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_those_asked_for_and_fit() {
        let sizes: Sizes = "3,100-200".parse().expect("sizes");
        let mut rng = Rng::with_seed(1);
        let picked: Vec<usize> = (0..1000).map(|_| sizes.pick(&mut rng, 150)).collect();
        assert!(
            picked
                .iter()
                .all(|size| *size == 3 || (100..=150).contains(size))
        );
        assert!(picked.contains(&3) && picked.contains(&100) && picked.contains(&150));
    }
}

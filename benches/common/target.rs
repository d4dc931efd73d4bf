//! What a ratio has to be.

/// What the median of linerate / rival has to be.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// At least.
    AtLeast(f64),
    /// At most.
    AtMost(f64),
}

impl Target {
    /// Whether a ratio fulfils it.
    pub fn is_reached(self, ratio: f64) -> bool {
        match self {
            Target::AtLeast(bound) => ratio >= bound,
            Target::AtMost(bound) => ratio <= bound,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::AtLeast(bound) => write!(f, "≥ {bound:.2}"),
            Target::AtMost(bound) => write!(f, "≤ {bound:.2}"),
        }
    }
}

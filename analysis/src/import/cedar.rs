//! Conditions with what is known about them: what certainly holds, and what may hold.
//!
//! A part that cannot be expressed is never true on the side of an `allow` and always true on the
//! side of a `deny`, so a draft is as the original or narrower.

/// A boolean expression of Cedar, simplified as it is built.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Expr {
    True,
    False,
    Is(String),
    Not(Box<Expr>),
    All(Vec<Expr>),
    Any(Vec<Expr>),
}

/// A condition between two bounds. Equal where it is exact.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Between {
    /// Wherever this holds, the condition does.
    pub(super) certain: Expr,
    /// Wherever the condition holds, this does.
    pub(super) possible: Expr,
}

impl Expr {
    pub(super) fn not(self) -> Self {
        match self {
            Self::True => Self::False,
            Self::False => Self::True,
            Self::Not(inner) => *inner,
            other => Self::Not(Box::new(other)),
        }
    }

    pub(super) fn all(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut kept: Vec<Self> = Vec::new();
        for part in parts {
            match part {
                Self::True => {}
                Self::False => return Self::False,
                part if kept.contains(&part) => {}
                part => kept.push(part),
            }
        }
        match kept.len() {
            0 => Self::True,
            1 => kept.swap_remove(0),
            _ => Self::All(kept),
        }
    }

    pub(super) fn any(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut kept: Vec<Self> = Vec::new();
        for part in parts {
            match part {
                Self::False => {}
                Self::True => return Self::True,
                part if kept.contains(&part) => {}
                part => kept.push(part),
            }
        }
        match kept.len() {
            0 => Self::False,
            1 => kept.swap_remove(0),
            _ => Self::Any(kept),
        }
    }

    /// Its text; a composed one in brackets, so that it can stand anywhere.
    pub(super) fn text(&self) -> String {
        match self {
            Self::True => "true".into(),
            Self::False => "false".into(),
            Self::Is(text) => text.clone(),
            Self::Not(inner) => match &**inner {
                Self::Is(text) => format!("!({text})"),
                other => format!("!{}", other.text()),
            },
            Self::All(parts) => joined(parts, " && "),
            Self::Any(parts) => joined(parts, " || "),
        }
    }
}

/// In pairs, so that a long list nests in brackets only as deep as its logarithm, and never as
/// one chain that exhausts a stack.
fn joined(parts: &[Expr], operator: &str) -> String {
    match parts {
        [] => "true".into(),
        [one] => one.text(),
        several => {
            let (left, right) = several.split_at(several.len() / 2);
            let separator = if several.len() > 8 {
                format!("\n  {operator}")
            } else {
                operator.to_owned()
            };
            format!(
                "({}{separator}{})",
                joined(left, operator),
                joined(right, operator)
            )
        }
    }
}

impl Between {
    pub(super) fn exactly(expr: Expr) -> Self {
        Self {
            certain: expr.clone(),
            possible: expr,
        }
    }

    /// Nothing is known about it.
    pub(super) fn unknown() -> Self {
        Self {
            certain: Expr::False,
            possible: Expr::True,
        }
    }

    pub(super) fn not(self) -> Self {
        Self {
            certain: self.possible.not(),
            possible: self.certain.not(),
        }
    }

    pub(super) fn all(parts: Vec<Self>) -> Self {
        let (certain, possible): (Vec<Expr>, Vec<Expr>) = parts
            .into_iter()
            .map(|part| (part.certain, part.possible))
            .unzip();
        Self {
            certain: Expr::all(certain),
            possible: Expr::all(possible),
        }
    }

    pub(super) fn is_exact(&self) -> bool {
        self.certain == self.possible
    }
}

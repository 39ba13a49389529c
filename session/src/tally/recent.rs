//! The HTTP request that was allowed last, and where it is counted: mostly the next one is as it,
//! and then no words have to be made of it to find that.

use std::sync::Arc;

use cordon_policy::{Basis, Destination, Method, Operation, Request, Scheme};

use super::{destinations::Place, rule};

/// See the module.
#[derive(Debug)]
pub(super) struct Recent {
    to: Destination,
    method: Method,
    scheme: Scheme,
    rule: Arc<str>,
    destination: Place,
    line: Option<usize>,
}

impl Recent {
    pub(super) fn of(
        request: &Request,
        basis: &Basis,
        destination: Place,
        line: Option<usize>,
    ) -> Option<Self> {
        let Operation::HttpRequest {
            destination: to,
            method,
            facts,
            ..
        } = &request.operation
        else {
            return None;
        };
        let rule = basis.rules.first().filter(|_| basis.observed.is_none())?;
        Some(Self {
            to: to.clone(),
            method: method.clone(),
            scheme: facts.scheme,
            rule: Arc::clone(&rule.id),
            destination,
            line,
        })
    }

    /// Its destination and its line.
    pub(super) fn place(&self) -> (Place, Option<usize>) {
        (self.destination, self.line)
    }

    /// Whether a request is counted where this one is: in all that [`key`](super::key) is made of.
    pub(super) fn is_as(&self, request: &Request, basis: &Basis) -> bool {
        let Operation::HttpRequest {
            destination,
            method,
            facts,
            ..
        } = &request.operation
        else {
            return false;
        };
        *destination == self.to
            && *method == self.method
            && facts.scheme == self.scheme
            && basis.observed.is_none()
            && rule(basis) == &*self.rule
    }
}

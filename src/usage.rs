//! What exchanges use and cost: estimates where an endpoint does not say, price lists, and what each caller has spent.

pub mod estimate;
pub mod spend;

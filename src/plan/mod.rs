//! Every decision, no effects.

//! The story of a launch, and the only place that knows its order.

//! THE column table (being written).

//! The manual, written from the declarations.

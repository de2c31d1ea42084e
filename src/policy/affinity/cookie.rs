//! Cookies as bytes: found in a request without allocating, written into a response.

//! Events of the kernel: links, addresses, routes, forwarding, rules of the packet filter.

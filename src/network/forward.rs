//! The role that carries connections to published ports where the host's own input rules decide: `longshore forward`.

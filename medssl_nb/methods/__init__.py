"""Methods of self-supervised learning, each a `PretextTask`; none imports another."""

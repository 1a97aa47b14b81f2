"""Pictures of what a network does: convolution and pooling on arrays that can be looked at."""

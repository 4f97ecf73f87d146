"""Pure maths: images and random keys in, arrays out. Imports nothing else of the package."""

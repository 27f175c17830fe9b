"""The International Brain Laboratory's ALF names: traces and ROIs of a field of view."""

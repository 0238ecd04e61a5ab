"""`ngsp demo`: the whole bus on one machine, with real parts and synthetic citizens, and the main job over it."""

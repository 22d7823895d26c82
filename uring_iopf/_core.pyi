# The compiled module. cffi's objects have no static types; `_native` gives them one seam that does.
from typing import Any

ffi: Any
lib: Any

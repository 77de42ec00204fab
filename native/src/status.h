// A failed check: one line for the caller, and the status that goes with it.
#pragma once

#include <cstdarg>
#include <cstdio>

#include "unrolled.h"

namespace unrolled {

__attribute__((format(printf, 2, 3))) inline int invalid(char *message, const char *format, ...) {
  if (message != nullptr) {
    va_list values;
    va_start(values, format);
    std::vsnprintf(message, UNROLLED_MESSAGE, format, values);
    va_end(values);
  }
  return UNROLLED_INVALID;
}

}  // namespace unrolled

// A list of calls, so that who makes them pays once for coming here.
#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

#include "status.h"

namespace unrolled {
namespace {

template <class T>
T argument(int64_t word) {
  if constexpr (std::is_pointer_v<T>)
    return reinterpret_cast<T>(static_cast<intptr_t>(word));
  else
    return static_cast<T>(word);
}

template <class... T, size_t... At>
int with(int (*function)(T...), const int64_t *words, char *message, std::index_sequence<At...>) {
  return function(argument<std::tuple_element_t<At, std::tuple<T...>>>(words[At])..., message);
}

// `function(words..., message)`
template <class... T>
int apply(int (*function)(T...), const int64_t *words, char *message) {
  return with(function, words, message, std::make_index_sequence<sizeof...(T) - 1>());
}

int make(const unrolled_call &call, char *message) {
  switch (call.function) {
    case UNROLLED_CALL_RUN: return apply(unrolled_plan_run, call.arguments, message);
    case UNROLLED_CALL_PACK: return apply(unrolled_pack_all, call.arguments, message);
    case UNROLLED_CALL_COPY: return apply(unrolled_copy_rows, call.arguments, message);
    case UNROLLED_CALL_ADD: return apply(unrolled_add_rows, call.arguments, message);
    case UNROLLED_CALL_OUTER: return apply(unrolled_outer, call.arguments, message);
  }
  return invalid(message, "there is no call %lld", (long long)call.function);
}

}  // namespace
}  // namespace unrolled

int unrolled_play(const unrolled_call *calls, int64_t count, char *message) {
  using namespace unrolled;
  if (count < 0 || (count > 0 && calls == nullptr)) return invalid(message, "a list of %lld calls", (long long)count);
  for (int64_t i = 0; i < count; ++i) {
    if (calls[i].arguments == nullptr) return invalid(message, "call %lld has no arguments", (long long)i);
    if (int status = make(calls[i], message)) return status;
  }
  return UNROLLED_OK;
}

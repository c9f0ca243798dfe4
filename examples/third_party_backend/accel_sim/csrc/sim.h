// What a kernel of the simulated device is given as its stream; all that its author needs.
#ifndef SIM_H_
#define SIM_H_

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sim_stream {
  // Puts work(argument) at the end of the stream and returns at once; a thread of the stream runs
  // it later, after all that was put there before.
  void (*launch)(struct sim_stream *stream, void (*work)(void *), void *argument);
} sim_stream;

#ifdef __cplusplus
}
#endif

#endif  // SIM_H_

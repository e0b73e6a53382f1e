/* Text of the runtime that is carried along: emitted sources take heap.c into themselves, and an executable's table
   needs the headers where nothing is installed. Made from runtime/ by the build (embed.cmake). */
#ifndef GD_EMBEDDED_H
#define GD_EMBEDDED_H
extern const char gd_text_heap_h[], gd_text_heap_c[], gd_text_program_h[], gd_text_tensor_h[], gd_text_trainer_h[];
#endif
